package ai.edgekit.core

/** Which side answers. */
public enum class Route(public val text: String) {
    LOCAL("local"),
    CLOUD("cloud"),
    ;

    public companion object {
        /** The route [text] names. Throws [EdgekitException]. */
        public fun of(text: String): Route =
            entries.firstOrNull { it.text == text } ?: throw EdgekitException("unknown route: $text", ErrorKind.BAD_FIELD)
    }
}

/**
 * What the policy did with one prompt.
 *
 * [margins] holds the marker's margin at each step at which it was decided whether to call. [markerMargin] is the
 * largest of them, the bias that it decided with included: above 0 it called, and near 0 it hesitated.
 */
public data class Decision(
    val route: Route,
    val reason: String,
    val text: String,
    val answer: String?,
    val tokenIds: List<Int>,
    val markerMargin: Double = Double.NEGATIVE_INFINITY,
    val promptTokens: Int = 0,
    val margins: List<MarkerMargin> = emptyList(),
) {
    /** True if the prompt goes to the cloud. */
    val called: Boolean get() = route == Route.CLOUD

    /** Whether [other] is the same decision: route, reason and answer. Its tokens may differ. */
    public fun agreesWith(other: Decision): Boolean =
        route == other.route && reason == other.reason && answer == other.answer
}

/**
 * The routing-token decoder: tokens in, visible text and one decision out.
 *
 * A call for the cloud is one of the marker's token id sequences, generated whole, with nothing but white
 * space before it on its line and not inside an answer. The same text spelled with other tokens, quoted in
 * the middle of a line, or cut off by the length limit is not a call. The marker's text is never shown.
 *
 * The answer is what stands between the first answer delimiters outside a thought. Within <think> and </think>, and
 * after a <think> that nothing closes, the answer's delimiters are text like any other: a policy may speak of them.
 * The marker is a call there too, so that a policy need not think to the end before it asks.
 */
public class RoutingDecoder(private val spec: RoutingSpec, private val vocabulary: Vocabulary) {
    private val utf8 = Utf8Decoder()
    private val ids = ArrayList<Int>()
    private val lineStarts = ArrayList<Boolean>()
    private val read = StringBuilder()
    private val shown = StringBuilder()
    private val held = StringBuilder()
    private val ends = mapOf(
        Passage.TEXT to listOf(spec.answer.open to Passage.ANSWER, RoutingSpec.THOUGHT_OPEN to Passage.THOUGHT),
        Passage.THOUGHT to listOf(RoutingSpec.THOUGHT_CLOSE to Passage.TEXT),
        Passage.ANSWER to listOf(spec.answer.close to Passage.TEXT),
    ) // from each passage: the delimiters that end it, and where they lead
    private var passage = if (spec.beginsInThought) Passage.THOUGHT else Passage.TEXT
    private var lineIsBlank = true
    private var answer: String? = null
    private var reason: String? = null

    public val tokenIds: List<Int> get() = ids

    /** True once a stop token, the marker or a closed answer has ended the response. */
    public val done: Boolean get() = reason != null

    /** Whether a marker beginning with the next token is a call: at a line's start, outside an answer. */
    public val markerCounts: Boolean
        get() = lineIsBlank && passage != Passage.ANSWER && !utf8.isInsideCharacter // half a character is already text

    /**
     * How a marker could go on: the ids that may come next, each with the shortest rest of a marker after it.
     *
     * A marker may begin where it counts, and goes on where the last tokens are its beginning. One that does not fit
     * in the [room] tokens left is none.
     */
    public fun openMarkers(room: Int): Map<Int, List<Int>> {
        val found = LinkedHashMap<Int, List<Int>>()
        for (marker in spec.marker.tokenIds) {
            for (begun in 0..minOf(marker.size - 1, ids.size)) {
                val start = ids.size - begun
                if (marker.size - begun > room || !(if (begun == 0) markerCounts else lineStarts[start])) continue
                if (ids.subList(start, ids.size) != marker.subList(0, begun)) continue
                val rest = marker.subList(begun + 1, marker.size)
                if (rest.size <= (found[marker[begun]] ?: rest).size) found[marker[begun]] = rest
            }
        }
        return found
    }

    /** Take one generated token; returns text now safe to show. Tokens after the end are ignored. */
    public fun push(tokenId: Int): String {
        if (done) return ""
        lineStarts.add(markerCounts)
        ids.add(tokenId)
        if (completesMarker()) {
            reason = "marker"
            held.setLength(0)
            return ""
        }
        if (tokenId in spec.stopTokenIds) {
            reason = "stop"
            return show(utf8.decode(NOTHING, final = true), final = true)
        }
        val fresh = utf8.decode(vocabulary[tokenId])
        return show(fresh.take(follow(fresh)), final = done)
    }

    /**
     * The decision; call once the stream has ended, by itself or by the length limit.
     *
     * Text held back because the limit cut it off where the marker may have begun is not shown.
     */
    public fun finish(): Decision {
        if (!done) show(utf8.decode(NOTHING, final = true), final = false)
        val answer = answer
        return when {
            reason == "marker" -> Decision(Route.CLOUD, "marker", shown.toString(), null, ids.toList())
            answer != null -> Decision(Route.LOCAL, "answer", shown.toString(), answer, ids.toList())
            else -> Decision(spec.onNoAnswer, "no_answer", shown.toString(), null, ids.toList())
        }
    }

    private fun completesMarker(): Boolean = spec.marker.tokenIds.any { marker ->
        val start = ids.size - marker.size
        start >= 0 && ids.subList(start, ids.size) == marker && lineStarts[start]
    }

    /** Read [fresh] up to the answer's end, if it holds that, else all of it; returns how many characters. */
    private fun follow(fresh: String): Int {
        fresh.forEachIndexed { index, character ->
            lineIsBlank = character == '\n' || (lineIsBlank && isSpace(character))
            read.append(character)
            val (mark, following) = ends.getValue(passage).firstOrNull { read.endsWith(it.first) } ?: return@forEachIndexed
            if (passage == Passage.ANSWER) {
                answer = withoutMarker(read.substring(0, read.length - mark.length)).trim(::isSpace)
                reason = "answer"
                return index + 1
            }
            passage = following
            read.setLength(0)
        }
        return fresh.length
    }

    private fun withoutMarker(text: String): String {
        var inside = text
        while (spec.marker.text in inside) inside = inside.replace(spec.marker.text, "")
        return inside
    }

    /**
     * Add [fresh] to what is shown, holding back a tail that may become the marker's text.
     *
     * A marker's text is dropped once whole. [final] shows the tail: nothing can complete it.
     */
    private fun show(fresh: String, final: Boolean): String {
        val marker = spec.marker.text
        val before = shown.length
        for (character in fresh) {
            held.append(character)
            if (shownAndHeldEnd(marker.length) == marker) held.setLength(maxOf(0, held.length - marker.length))
            val tail = minOf(markerTail(shownAndHeldEnd(marker.length)), held.length)
            shown.append(held, 0, held.length - tail)
            held.delete(0, held.length - tail)
        }
        if (final) {
            shown.append(held)
            held.setLength(0)
        }
        return shown.substring(before)
    }

    /** The last [length] characters of what is shown followed by what is held back. */
    private fun shownAndHeldEnd(length: Int): String {
        val fromShown = maxOf(0, length - held.length)
        return shown.substring(maxOf(0, shown.length - fromShown)) + held.substring(maxOf(0, held.length - length))
    }

    /** Length of the longest end of [text] that begins the marker's text without completing it. */
    private fun markerTail(text: String): Int {
        val marker = spec.marker.text
        var start = text.indexOf(marker[0])
        while (start >= 0) {
            val length = text.length - start
            if (length < marker.length && marker.regionMatches(0, text, start, length)) return length
            start = text.indexOf(marker[0], start + 1)
        }
        return 0
    }

    private enum class Passage { TEXT, THOUGHT, ANSWER }

    private companion object {
        val NOTHING = ByteArray(0)

        /** Python's str.isspace: what Kotlin calls white space differs between the JVM and Android. */
        fun isSpace(character: Char): Boolean = when (character) {
            in '\u0009'..'\u000D', in '\u001C'..'\u0020', '\u0085', '\u00A0', '\u1680', in '\u2000'..'\u200A',
            '\u2028', '\u2029', '\u202F', '\u205F', '\u3000',
            -> true
            else -> false
        }
    }
}
