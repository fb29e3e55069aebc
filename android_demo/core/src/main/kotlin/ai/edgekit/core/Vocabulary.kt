package ai.edgekit.core

import java.util.BitSet

/**
 * What each token id spells, as bytes; a token may hold part of a UTF-8 character.
 *
 * Special tokens (end of text and the like) spell nothing in the visible text, except the routing data's delimiters,
 * whose text the routing decoder must see.
 */
public class Vocabulary private constructor(
    private val bytes: ByteArray,
    private val ends: IntArray,
    private val tokens: BitSet,
) {
    public operator fun get(tokenId: Int): ByteArray {
        if (tokenId !in ends.indices) return NOTHING
        return bytes.copyOfRange(if (tokenId == 0) 0 else ends[tokenId - 1], ends[tokenId])
    }

    /** [logits] with minus infinity for ids that are no token's: a model may have rows for them, nothing chooses one. */
    public fun onlyTokens(logits: FloatArray): FloatArray {
        if (tokens.nextClearBit(0) >= logits.size) return logits
        val masked = logits.copyOf()
        var id = tokens.nextClearBit(0)
        while (id < masked.size) {
            masked[id] = Float.NEGATIVE_INFINITY
            id = tokens.nextClearBit(id + 1)
        }
        return masked
    }

    public companion object {
        private val NOTHING = ByteArray(0)

        /** The table of [pieces]; ids that are not there spell nothing. */
        public fun of(pieces: Map<Int, ByteArray>): Vocabulary = laidOut(pieces.keys.maxOrNull() ?: -1) { onPiece ->
            pieces.forEach(onPiece)
        }

        /** The table the routing decoder needs for [routing], from a tokenizer.json. */
        public fun of(file: TokenizerFile, routing: RoutingSpec): Vocabulary {
            val visible = routing.delimiters
            val addedIds = file.addedTokens.map { it.id }.toSet()
            val largest = maxOf(file.vocabulary.largestId, addedIds.maxOrNull() ?: TokenTable.NONE)
            return laidOut(largest) { onPiece ->
                file.vocabulary.forEach { text, id ->
                    if (id !in addedIds) onPiece(id, if (file.isByteLevel) byteLevel(text) else sentencePiece(text))
                }
                for (token in file.addedTokens) {
                    val isHidden = token.special && token.content !in visible
                    val spelled = if (file.isByteLevel) token.content.toByteArray() else sentencePiece(token.content)
                    onPiece(token.id, if (isHidden) NOTHING else spelled)
                }
            }
        }

        /** Two passes over the pieces, to count and to fill: no object stays for any of them. */
        private fun laidOut(largestId: Int, forEachPiece: ((Int, ByteArray) -> Unit) -> Unit): Vocabulary {
            val ends = IntArray(largestId + 1)
            val tokens = BitSet(largestId + 1)
            forEachPiece { id, piece ->
                ends[id] = piece.size
                tokens.set(id)
            }
            for (id in 1..largestId) ends[id] += ends[id - 1]
            val bytes = ByteArray(ends.lastOrNull() ?: 0)
            forEachPiece { id, piece -> piece.copyInto(bytes, ends[id] - piece.size) }
            return Vocabulary(bytes, ends, tokens)
        }

        private fun byteLevel(piece: String): ByteArray {
            val bytes = ByteArray(piece.length)
            for ((index, character) in piece.withIndex()) bytes[index] = ByteAlphabet.byte(character) ?: return NOTHING
            return bytes
        }

        private fun sentencePiece(piece: String): ByteArray {
            val isByte = piece.length == 6 && piece.startsWith("<0x") && piece.endsWith(">")
            val byte = if (isByte) piece.substring(3, 5).takeIf { text -> text.all { it in DIGITS } } else null
            return byte?.let { byteArrayOf(it.toInt(16).toByte()) } ?: piece.replace('\u2581', ' ').toByteArray()
        }

        private const val DIGITS = "0123456789ABCDEF"
    }
}

/** The printable stand-in of every byte in byte-level BPE vocabularies (GPT-2's table), both ways. */
internal object ByteAlphabet {
    /** Byte to stand-in. */
    val characters = CharArray(256)
    private val bytes = ShortArray(512) { -1 }

    init {
        val printable = (33..126) + (161..172) + (174..255)
        val others = (0..255) - printable.toSet()
        for (byte in printable) characters[byte] = byte.toChar()
        others.forEachIndexed { index, byte -> characters[byte] = (256 + index).toChar() }
        characters.forEachIndexed { byte, character -> bytes[character.code] = byte.toShort() }
    }

    /** Stand-in to byte; null for any other character. */
    fun byte(character: Char): Byte? =
        if (character.code < bytes.size && bytes[character.code] >= 0) bytes[character.code].toByte() else null
}
