package ai.edgekit.core

/**
 * What each token id spells, as bytes; a token may hold part of a UTF-8 character.
 *
 * Special tokens (end of text and the like) spell nothing in the visible text, except those listed in
 * `visible`: delimiters and the marker, whose text the routing decoder must see.
 */
class Vocabulary(private val pieces: Map<Int, ByteArray>) {
    operator fun get(tokenId: Int): ByteArray = pieces[tokenId] ?: NOTHING

    companion object {
        private val NOTHING = ByteArray(0)
        private val SENTENCEPIECE_BYTE = Regex("<0x([0-9A-F]{2})>")

        /** The id-to-bytes table the routing decoder needs for [routing], from a parsed tokenizer.json. */
        fun of(tokenizer: JsonFields, routing: RoutingSpec): Vocabulary {
            val visible = routing.delimiters
            val parts = listOf("pre_tokenizer", "decoder").map { tokenizer.members[it] }
            val isByteLevel = "ByteLevel" in Json.write(parts)
            val vocabulary = tokenizer.fields("model").fields("vocab")
            val pieces = HashMap<Int, ByteArray>()
            for (text in vocabulary.names) {
                pieces[vocabulary.index(text)] = if (isByteLevel) byteLevel(text) else sentencePiece(text)
            }
            for (token in AddedToken.readAll(tokenizer)) {
                val isHidden = token.special && token.content !in visible
                pieces[token.id] = if (isHidden) NOTHING else token.content.toByteArray()
            }
            return Vocabulary(pieces)
        }

        private fun byteLevel(piece: String): ByteArray {
            val bytes = ByteArray(piece.length)
            piece.forEachIndexed { index, character ->
                bytes[index] = (ByteAlphabet.bytes[character] ?: return NOTHING).toByte()
            }
            return bytes
        }

        private fun sentencePiece(piece: String): ByteArray {
            val byte = SENTENCEPIECE_BYTE.matchEntire(piece)
            return if (byte != null) {
                byteArrayOf(byte.groupValues[1].toInt(16).toByte())
            } else {
                piece.replace('\u2581', ' ').toByteArray()
            }
        }
    }
}

/** The printable stand-in of every byte in byte-level BPE vocabularies (GPT-2's table), both ways. */
object ByteAlphabet {
    /** Stand-in to byte. */
    val bytes: Map<Char, Int>

    /** Byte to stand-in. */
    val characters: CharArray

    init {
        val printable = (33..126) + (161..172) + (174..255)
        val others = (0..255) - printable.toSet()
        val standIns = others.mapIndexed { index, byte -> (256 + index).toChar() to byte }
        val pairs = printable.map { it.toChar() to it } + standIns
        bytes = pairs.toMap()
        characters = CharArray(256).also { table -> pairs.forEach { (character, byte) -> table[byte] = character } }
    }
}
