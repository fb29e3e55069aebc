package ai.edgekit.core

/** One entry of added_tokens. */
public class AddedToken(
    public val id: Int,
    public val content: String,
    public val singleWord: Boolean,
    public val stripsLeft: Boolean,
    public val stripsRight: Boolean,
    public val normalized: Boolean,
    public val special: Boolean,
) {
    /** The same, spelled [content]. */
    internal fun spelled(content: String) =
        AddedToken(id, content, singleWord, stripsLeft, stripsRight, normalized, special)

    public companion object {
        internal fun of(value: Any?, index: Int): AddedToken {
            val token = JsonFields.of(value, "added_tokens.$index")
            return AddedToken(
                token.whole("id", 0L until (1L shl 24)).toInt(), token.text("content"), token.flag("single_word"),
                token.flag("lstrip"),
                token.flag("rstrip"), token.flag("normalized"), token.flag("special"),
            )
        }
    }
}

/** From [begin] up to, not including, [end]. */
internal data class Span(val begin: Int, val end: Int)

/** Finds added tokens in text: leftmost first, the longest of those that begin at one place. */
internal class AddedTokens(tokens: List<AddedToken>) {
    private val byFirst = tokens.filter { it.content.isNotEmpty() }
        .groupBy { it.content[0] }
        .mapValues { (_, list) -> list.sortedByDescending { it.content.length } }

    val isEmpty: Boolean get() = byFirst.isEmpty()

    /** In order, hand every token in [text] that lies in one of [within] to [onToken], what is between to [onText]. */
    fun split(text: String, within: List<Span>, onToken: (Int) -> Unit, onText: (Span) -> Unit) {
        var from = 0
        var at = 0
        while (at < text.length) {
            val token = longest(text, at, within)
            if (token == null) {
                at++
                continue
            }
            val end = at + token.content.length
            if (!token.singleWord || standsAlone(text, at, end)) {
                var begin = at
                if (token.stripsLeft) while (begin > from && isWhiteSpace(text[begin - 1])) begin--
                if (begin > from) onText(Span(from, begin))
                onToken(token.id)
                from = end
                if (token.stripsRight) while (from < text.length && isWhiteSpace(text[from])) from++
            }
            at = maxOf(end, from)
        }
        if (from < text.length) onText(Span(from, text.length))
    }

    private fun longest(text: String, at: Int, within: List<Span>): AddedToken? =
        byFirst[text[at]]?.firstOrNull { token ->
            val end = at + token.content.length
            text.startsWith(token.content, at) && within.any { it.begin <= at && end <= it.end }
        }

    private fun standsAlone(text: String, begin: Int, end: Int): Boolean {
        val before = begin > 0 && isWord(text.codePointBefore(begin))
        return !before && !(end < text.length && isWord(text.codePointAt(end)))
    }

    /** What \w holds in the regular expressions of Rust. */
    private fun isWord(codePoint: Int): Boolean = Character.isLetterOrDigit(codePoint) ||
        Character.getType(codePoint) in WORD_TYPES || WORD_BESIDES.any { codePoint in it }

    private companion object {
        val WORD_TYPES = setOf(
            Character.NON_SPACING_MARK, Character.COMBINING_SPACING_MARK, Character.ENCLOSING_MARK,
            Character.CONNECTOR_PUNCTUATION, Character.LETTER_NUMBER,
        ).map { it.toInt() }.toSet()

        /** Joiners and enclosed letters. */
        val WORD_BESIDES =
            listOf(0x200C..0x200D, 0x24B6..0x24E9, 0x1F130..0x1F149, 0x1F150..0x1F169, 0x1F170..0x1F189)
    }
}

/** Unicode's White_Space: what \s means in tokenizer.json. */
internal fun isWhiteSpace(character: Char): Boolean = when (character) {
    in '\u0009'..'\u000D', ' ', '\u0085', '\u00A0', '\u1680', in '\u2000'..'\u200A', '\u2028', '\u2029', '\u202F',
    '\u205F', '\u3000',
    -> true
    else -> false
}
