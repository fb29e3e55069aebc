package ai.edgekit.core

import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import kotlin.math.abs

/**
 * Reads JSON from [input] a piece at a time, once and in order, so that a large file needs no tree of itself.
 *
 * RFC 8259 in UTF-8 and nothing more: no byte order mark, no half of a surrogate pair, no number beyond a double's
 * range, at most 64 brackets deep; in a tree no key twice. Anything else throws [EdgekitException] (NOT_JSON) naming
 * the byte. Numbers are read digit by digit: a regex over a shared text would copy the text each time on Android.
 */
public class JsonReader(private val input: InputStream) {
    private val buffer = ByteArray(1 shl 16)
    private var filled = 0
    private var at = 0
    private var before = 0L
    private var depth = 0
    private var scratch = ByteArray(256)
    private var length = 0
    private val utf8 = Charsets.UTF_8.newDecoder() // which reports what is no UTF-8

    /** The next value, with all in it. */
    public fun value(): Any? = when (next()) {
        '{'.code -> tree { value() }
        '['.code -> ArrayList<Any?>().also { list -> items { list.add(value()) } }
        '"'.code -> string()
        't'.code -> word("true", true)
        'f'.code -> word("false", false)
        'n'.code -> word("null", null)
        else -> number()
    }

    /** Whether the next value is a list. */
    public fun isList(): Boolean = next() == '['.code

    /** Whether the next value is an object. */
    public fun isObject(): Boolean = next() == '{'.code

    /** An object, whose every value [onKey] must read. */
    public fun members(onKey: (String) -> Unit): Unit = inBrackets('{', '}') {
        val key = string()
        expect(':')
        onKey(key)
    }

    /** An object as a tree, whose every value [onKey] must read and return; no key twice. */
    public fun tree(onKey: (String) -> Any?): Map<String, Any?> {
        val members = LinkedHashMap<String, Any?>()
        members { key ->
            if (key in members) fail("a key twice")
            members[key] = onKey(key)
        }
        return members
    }

    /** A list, whose every value [onItem] must read. */
    public fun items(onItem: () -> Unit): Unit = inBrackets('[', ']', onItem)

    /** A text. */
    public fun string(): String {
        expect('"')
        length = 0
        var isAscii = true
        while (true) {
            val byte = take()
            when {
                byte == '"'.code -> break
                byte == '\\'.code -> isAscii = escape() && isAscii
                byte < ' '.code -> fail("a control character in a text")
                else -> append(byte)
            }
            if (byte >= 0x80) isAscii = false
        }
        if (isAscii) return String(scratch, 0, length, Charsets.ISO_8859_1)
        return try {
            utf8.decode(ByteBuffer.wrap(scratch, 0, length)).toString()
        } catch (_: CharacterCodingException) {
            fail("a text is not UTF-8")
        }
    }

    /** A number: Long if it is whole and a double holds it exactly, else Double. */
    public fun number(): Any {
        length = 0
        next()
        if (peek() == '-'.code) append(take())
        val first = digits()
        if (length - first > 1 && scratch[first] == '0'.code.toByte()) fail("a number that begins with 0")
        var isWhole = true
        if (peek() == '.'.code) {
            isWhole = false
            append(take())
            digits()
        }
        if (peek() == 'e'.code || peek() == 'E'.code) {
            isWhole = false
            append(take())
            if (peek() == '+'.code || peek() == '-'.code) append(take())
            digits()
        }
        val text = String(scratch, 0, length, Charsets.ISO_8859_1)
        if (isWhole && length <= MOST_DIGITS) return text.toLong()
        val value = text.toDouble()
        if (value.isInfinite()) fail("a number beyond a double's range")
        return if (value == Math.rint(value) && abs(value) <= LARGEST_WHOLE) value.toLong() else value
    }

    /** Nothing may follow but white space. */
    public fun end() {
        skipSpace()
        if (peek() >= 0) fail("more after the end")
    }

    private inline fun inBrackets(open: Char, close: Char, part: () -> Unit) {
        expect(open)
        if (++depth > MAX_DEPTH) fail("more than $MAX_DEPTH brackets deep")
        if (next() == close.code) {
            take()
        } else {
            do {
                part()
                val byte = next()
                if (byte != ','.code && byte != close.code) fail("',' or '$close' was expected")
                take()
            } while (byte == ','.code)
        }
        depth--
    }

    /** Digits, at least one; where they begin in [scratch]. */
    private fun digits(): Int {
        val first = length
        while (peek() in '0'.code..'9'.code) append(take())
        if (length == first) fail("a value was expected")
        return first
    }

    /** After a backslash; whether what it stands for is ASCII. */
    private fun escape(): Boolean {
        when (val letter = take()) {
            '"'.code, '\\'.code, '/'.code -> append(letter)
            'b'.code -> append('\b'.code)
            'f'.code -> append(0x0C)
            'n'.code -> append('\n'.code)
            'r'.code -> append('\r'.code)
            't'.code -> append('\t'.code)
            'u'.code -> {
                val first = hexadecimal()
                val character = if (first in 0xD800..0xDFFF) pair(first) else String(Character.toChars(first))
                for (byte in character.toByteArray()) append(byte.toInt() and 0xFF)
                return first < 0x80
            }
            else -> fail("an unknown escape")
        }
        return true
    }

    private fun pair(first: Int): String {
        val second = if (first < 0xDC00 && take() == '\\'.code && take() == 'u'.code) hexadecimal() else 0
        if (second !in 0xDC00..0xDFFF) fail("half of a surrogate pair")
        return String(charArrayOf(first.toChar(), second.toChar()))
    }

    private fun hexadecimal(): Int {
        var value = 0
        repeat(4) {
            val digit = when (val byte = take()) {
                in '0'.code..'9'.code -> byte - '0'.code
                in 'a'.code..'f'.code -> byte - 'a'.code + 10
                in 'A'.code..'F'.code -> byte - 'A'.code + 10
                else -> fail("a bad \\u escape")
            }
            value = value * 16 + digit
        }
        return value
    }

    private fun word(word: String, value: Any?): Any? {
        for (letter in word) if (take() != letter.code) fail("a value was expected")
        return value
    }

    private fun expect(character: Char) {
        if (next() != character.code) fail("'$character' was expected")
        at++
    }

    /** The next byte that is no white space; it stays. */
    private fun next(): Int {
        skipSpace()
        return peek().also { if (it < 0) fail("the end came too early") }
    }

    private fun skipSpace() {
        while (isSpace(peek())) at++
    }

    private fun isSpace(byte: Int) = byte == ' '.code || byte == '\n'.code || byte == '\r'.code || byte == '\t'.code

    private fun take(): Int {
        val byte = peek()
        if (byte < 0) fail("the end came too early")
        at++
        return byte
    }

    /** The byte at hand, -1 at the end. */
    private fun peek(): Int {
        if (at == filled) {
            before += filled
            at = 0
            filled = maxOf(0, input.read(buffer))
            if (filled == 0) return -1
        }
        return buffer[at].toInt() and 0xFF
    }

    private fun append(byte: Int) {
        if (length == scratch.size) scratch = scratch.copyOf(2 * length)
        scratch[length++] = byte.toByte()
    }

    private fun fail(what: String): Nothing =
        throw EdgekitException("not JSON: byte ${before + at}. $what. Write the file again.", ErrorKind.NOT_JSON)

    private companion object {
        const val MAX_DEPTH = 64
        const val MOST_DIGITS = 15 // always below 2^53
        const val LARGEST_WHOLE = 9_007_199_254_740_992.0
    }
}
