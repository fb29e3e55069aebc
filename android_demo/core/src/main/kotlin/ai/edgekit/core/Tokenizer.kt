package ai.edgekit.core

import java.text.Normalizer

/**
 * Text to token ids exactly as Hugging Face's tokenizers does it, for byte-level BPE.
 *
 * Added tokens are cut out first, then each stretch between them is normalized, split by the
 * pre-tokenizers and merged. A tokenizer.json that asks for anything else is refused, never approximated.
 */
class Tokenizer private constructor(
    private val added: AddedTokens,
    private val normalize: (String) -> String,
    private val normalizedAdded: AddedTokens,
    private val preTokenizer: PreTokenizer,
    private val model: BytePairModel,
) {
    /** The ids of [text], no special token put around them. */
    fun encode(text: String): IntArray {
        val ids = ArrayList<Int>()
        added.split(text, ids::add) { raw ->
            normalizedAdded.split(normalize(raw), ids::add) { stretch ->
                for (piece in preTokenizer.split(stretch)) model.encode(piece, ids)
            }
        }
        return ids.toIntArray()
    }

    companion object {
        /** The tokenizer of a parsed tokenizer.json. Throws [EdgekitException] naming what is not known here. */
        fun of(fields: JsonFields): Tokenizer {
            val tokens = AddedToken.readAll(fields)
            return Tokenizer(
                AddedTokens(tokens.filter { !it.normalized }),
                normalizer(fields.members["normalizer"]),
                AddedTokens(tokens.filter { it.normalized }),
                PreTokenizer.of(fields.members["pre_tokenizer"]),
                BytePairModel.of(fields.fields("model")),
            )
        }

        private fun normalizer(value: Any?): (String) -> String {
            if (value == null) return { it }
            val fields = JsonFields.of(value, "normalizer")
            val type = fields.text("type")
            if (type == "Sequence") {
                val steps = fields.list("normalizers").map(::normalizer)
                return { text -> steps.fold(text) { normalized, step -> step(normalized) } }
            }
            val form = Normalizer.Form.entries.firstOrNull { it.name == type }
                ?: throw EdgekitException("normalizer.type: $type is not known here")
            return { Normalizer.normalize(it, form) }
        }
    }
}

/** One entry of added_tokens. */
class AddedToken(
    val id: Int,
    val content: String,
    val singleWord: Boolean,
    val stripsLeft: Boolean,
    val stripsRight: Boolean,
    val normalized: Boolean,
    val special: Boolean,
) {
    companion object {
        /** All of a parsed tokenizer.json. */
        fun readAll(tokenizer: JsonFields): List<AddedToken> {
            if ("added_tokens" !in tokenizer) return emptyList()
            return tokenizer.list("added_tokens").mapIndexed { index, entry ->
                val token = JsonFields.of(entry, "added_tokens.$index")
                AddedToken(
                    token.index("id"), token.text("content"), token.flag("single_word"), token.flag("lstrip"),
                    token.flag("rstrip"), token.flag("normalized"), token.flag("special"),
                )
            }
        }
    }
}

/** Finds added tokens in text: leftmost first, the longest of those that begin at one place. */
class AddedTokens(tokens: List<AddedToken>) {
    private val byFirst = tokens.filter { it.content.isNotEmpty() }
        .groupBy { it.content[0] }
        .mapValues { (_, list) -> list.sortedByDescending { it.content.length } }

    /** Hand every added token in [text] to [onToken] and every stretch between them to [onText], in order. */
    fun split(text: String, onToken: (Int) -> Unit, onText: (String) -> Unit) {
        var from = 0
        var at = 0
        while (at < text.length) {
            val token = byFirst[text[at]]?.firstOrNull { text.startsWith(it.content, at) }
            if (token == null) {
                at++
                continue
            }
            val end = at + token.content.length
            if (!token.singleWord || standsAlone(text, at, end)) {
                var begin = at
                if (token.stripsLeft) while (begin > from && isWhiteSpace(text[begin - 1])) begin--
                if (begin > from) onText(text.substring(from, begin))
                onToken(token.id)
                from = end
                if (token.stripsRight) while (from < text.length && isWhiteSpace(text[from])) from++
            }
            at = maxOf(end, from)
        }
        if (from < text.length) onText(text.substring(from))
    }

    private fun standsAlone(text: String, begin: Int, end: Int): Boolean {
        val before = begin > 0 && isWord(text.codePointBefore(begin))
        return !before && !(end < text.length && isWord(text.codePointAt(end)))
    }

    private fun isWord(codePoint: Int): Boolean =
        Character.isLetterOrDigit(codePoint) || Character.getType(codePoint) in WORD_TYPES

    private companion object {
        val WORD_TYPES = setOf(
            Character.NON_SPACING_MARK, Character.COMBINING_SPACING_MARK, Character.ENCLOSING_MARK,
            Character.CONNECTOR_PUNCTUATION, Character.LETTER_NUMBER,
        ).map { it.toInt() }.toSet()
    }
}

/** Unicode's White_Space: what \s means in tokenizer.json. */
internal fun isWhiteSpace(character: Char): Boolean = when (character) {
    in '\u0009'..'\u000D', ' ', '\u0085', '\u00A0', '\u1680', in '\u2000'..'\u200A', '\u2028', '\u2029', '\u202F',
    '\u205F', '\u3000',
    -> true
    else -> false
}
