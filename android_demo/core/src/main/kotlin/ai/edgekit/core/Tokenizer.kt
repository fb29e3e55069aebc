package ai.edgekit.core

/** A stretch of a prompt: the template's own words, or the user's. */
public data class PromptPart(val text: String, val isUser: Boolean)

/**
 * Text to token ids exactly as Hugging Face's tokenizers does it, for byte-level and SentencePiece BPE.
 *
 * Added tokens are cut out first, then each stretch between them is normalized, split by the pre-tokenizers and
 * merged. In a prompt the user's words are data: an added token that touches them is text.
 */
public class Tokenizer(file: TokenizerFile) {
    private val normalizer = TextNormalizer(file)
    private val added = AddedTokens(file.addedTokens.filter { !it.normalized })
    private val normalizedAdded =
        AddedTokens(file.addedTokens.filter { it.normalized }.map { it.spelled(normalizer.normalize(it.content)) })
    private val special = file.addedTokens.filter { it.special }.map { it.id }.toSet()
    private val byContent = file.addedTokens.associate { it.content to it.id }
    private val preTokenizer = PreTokenizer(file)
    private val model = BytePairModel(file)

    init {
        TokenizerBounds.check(file)
    }

    /** The ids of [text], no special token put around them. */
    public fun encode(text: String): IntArray = encode(listOf(PromptPart(text, isUser = false)), emptySet())

    /**
     * The ids of the text that [parts] make together.
     *
     * A stretch with user text holds no special token and none of [delimiters] (texts of added tokens): should the
     * model itself merge one, its characters' tokens stand instead.
     */
    public fun encode(parts: List<PromptPart>, delimiters: Set<String>): IntArray {
        val text = parts.joinToString("") { it.text }
        val forbidden = special + delimiters.mapNotNull(byContent::get)
        val ids = ArrayList<Int>()
        added.split(text, spans(parts, isUser = false), ids::add) { stretch ->
            val users = spans(parts, isUser = true).filter { it.begin < stretch.end && stretch.begin < it.end }
            encode(text, stretch, users, if (users.isEmpty()) emptySet() else forbidden, ids)
        }
        return ids.toIntArray()
    }

    /** Add the ids of [text] within [stretch], where no added token is but those of normalized text. */
    private fun encode(text: String, stretch: Span, users: List<Span>, forbidden: Set<Int>, ids: MutableList<Int>) {
        val normalized = normalizer.normalize(text.substring(stretch.begin, stretch.end))
        val within = if (users.isEmpty()) {
            listOf(Span(0, normalized.length))
        } else {
            templateOf(normalized, text, stretch, users)
        }
        normalizedAdded.split(normalized, within, ids::add) { span ->
            val isFirst = stretch.begin == 0 && span.begin == 0
            val own = ArrayList<Int>()
            for (piece in preTokenizer.split(normalized.substring(span.begin, span.end), isFirst)) {
                model.encode(piece, own)
            }
            for (id in own) if (id in forbidden) spellOut(id, ids) else ids.add(id)
        }
    }

    /** What of [normalized] begins and ends like the template's own words in [stretch], normalized alone. */
    private fun templateOf(normalized: String, text: String, stretch: Span, users: List<Span>): List<Span> {
        if (normalizedAdded.isEmpty) return emptyList()
        val head = normalizer.normalize(text.substring(stretch.begin, maxOf(users.first().begin, stretch.begin)))
        val tail = normalizer.normalize(text.substring(minOf(users.last().end, stretch.end), stretch.end))
        val before = normalized.commonPrefixWith(head).length
        val after = normalized.substring(before).commonSuffixWith(tail).length
        return listOf(Span(0, before), Span(normalized.length - after, normalized.length))
    }

    private fun spellOut(id: Int, ids: MutableList<Int>) {
        val text = model.text(id).orEmpty()
        if (text.codePointCount(0, text.length) < 2) {
            ids.add(id)
            return
        }
        text.codePoints().forEach { model.encode(String(Character.toChars(it)), ids) }
    }

    /** Where in the whole text the user's [parts] lie, or the template's; parts that touch are one. */
    private fun spans(parts: List<PromptPart>, isUser: Boolean): List<Span> {
        val spans = ArrayList<Span>()
        var begin = 0
        for (part in parts) {
            val end = begin + part.text.length
            if (part.isUser == isUser && end > begin) {
                val last = spans.lastOrNull()
                if (last?.end == begin) spans[spans.size - 1] = Span(last.begin, end) else spans.add(Span(begin, end))
            }
            begin = end
        }
        return spans
    }
}
