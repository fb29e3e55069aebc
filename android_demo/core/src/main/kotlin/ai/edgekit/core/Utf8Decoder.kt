package ai.edgekit.core

/**
 * Bytes to text as they stream in. Each longest start of a character that turns out to be none becomes one
 * U+FFFD, as Unicode recommends and as Python's incremental decoder does with errors="replace".
 */
public class Utf8Decoder {
    private var codePoint = 0
    private var missing = 0
    private var lowest = 0x80
    private var highest = 0xBF

    /** True while part of a character waits for its other bytes. */
    public val isInsideCharacter: Boolean get() = missing > 0

    /** The text [bytes] complete; [final] also gives up on a character that is not whole. */
    public fun decode(bytes: ByteArray, final: Boolean = false): String {
        val out = StringBuilder()
        for (byte in bytes) take(byte.toInt() and 0xFF, out)
        if (final && missing > 0) giveUp(out)
        return out.toString()
    }

    private fun take(byte: Int, out: StringBuilder) {
        if (missing > 0) {
            if (byte in lowest..highest) return follow(byte, out)
            giveUp(out)
        }
        when (byte) {
            in 0x00..0x7F -> out.append(byte.toChar())
            in 0xC2..0xDF -> begin(byte and 0x1F, 1)
            in 0xE0..0xEF -> {
                begin(byte and 0x0F, 2)
                if (byte == 0xE0) lowest = 0xA0
                if (byte == 0xED) highest = 0x9F
            }
            in 0xF0..0xF4 -> {
                begin(byte and 0x07, 3)
                if (byte == 0xF0) lowest = 0x90
                if (byte == 0xF4) highest = 0x8F
            }
            else -> out.append(REPLACEMENT)
        }
    }

    private fun begin(bits: Int, following: Int) {
        codePoint = bits
        missing = following
        lowest = 0x80
        highest = 0xBF
    }

    private fun follow(byte: Int, out: StringBuilder) {
        begin((codePoint shl 6) or (byte and 0x3F), missing - 1)
        if (missing == 0) out.appendCodePoint(codePoint)
    }

    private fun giveUp(out: StringBuilder) {
        missing = 0
        out.append(REPLACEMENT)
    }

    private companion object {
        const val REPLACEMENT = '\uFFFD'
    }
}
