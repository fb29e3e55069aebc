package ai.edgekit.core

/** A policy that runs token by token with its KV cache inside. */
public interface StepModel {
    public val contextLength: Int

    /** Forget the KV cache. */
    public fun reset()

    /** Take a prompt, or more of one, after what was taken since [reset]; returns the next token's logits. */
    public fun prefill(tokenIds: IntArray): FloatArray

    /** Take one more token; returns the next token's logits. */
    public fun decode(tokenId: Int): FloatArray
}

/**
 * One prompt being decoded greedily. [markerBias] null means the spec's; minus infinity forbids calling.
 *
 * Whether to call is decided at a marker's first token that the policy would not write by itself, or at its last: up
 * to there the policy's own text is its own. Called, the rest of the marker is written without asking the model, so
 * a bias decides exactly where margin + bias passes 0, however many tokens the marker has. Elsewhere the marker's
 * tokens are text. [onText] gets the visible text as it grows. Throws [EdgekitException] for a prompt longer than the
 * context.
 */
public class DecodeSession(
    spec: RoutingSpec,
    private val vocabulary: Vocabulary,
    private val promptTokens: Int,
    contextLength: Int,
    markerBias: Double? = null,
    private val onText: (String) -> Unit = {},
) {
    private val limit: Int
    private val bias = markerBias ?: spec.markerBias
    private val decoder = RoutingDecoder(spec, vocabulary)
    private val margins = ArrayList<MarkerMargin>()
    private var weakest = Double.POSITIVE_INFINITY
    private var shown = 0

    init {
        val room = contextLength - promptTokens
        if (room < 1) {
            throw EdgekitException(
                "prompt too long: $promptTokens tokens. The context holds $contextLength. Shorten it.",
                ErrorKind.TOO_LONG,
            )
        }
        limit = minOf(spec.maxNewTokens, room)
    }

    /**
     * Choose the next token from [logits]; null when the response has ended.
     *
     * Throws [EdgekitException] for logits that are no numbers, or too few of them.
     */
    public fun advance(logits: FloatArray): Int? {
        val chosen = choose(logits)
        val fresh = chosen.joinToString("", transform = decoder::push)
        shown += fresh.length
        if (fresh.isNotEmpty()) onText(fresh)
        return if (decoder.done || decoder.tokenIds.size >= limit) null else chosen.last()
    }

    /** The decision, after [advance] returned null; [onText] gets what was still held back. */
    public fun decision(): Decision {
        val decision = decoder.finish()
        val rest = decision.text.substring(shown)
        if (rest.isNotEmpty()) onText(rest)
        shown = decision.text.length
        val margin = DecisionRule.largestMargin(margins, bias)
        return decision.copy(markerMargin = margin, promptTokens = promptTokens, margins = margins.toList())
    }

    /** The next token, or all that is missing of the marker where the policy calls. */
    private fun choose(all: FloatArray): List<Int> {
        val position = decoder.tokenIds.size
        val openMarkers = decoder.openMarkers(limit - position)
        checkLogits(all, position, openMarkers.keys.maxOrNull() ?: 0)
        val logits = vocabulary.onlyTokens(all)
        if (logits !== all) checkLogits(logits, position, 0)
        if (openMarkers.isEmpty()) {
            weakest = Double.POSITIVE_INFINITY
            return listOf(DecisionRule.largest(logits) { true })
        }
        val found = DecisionRule.contest(logits, openMarkers.keys)
        weakest = minOf(weakest, found.margin)
        // Its own next word: whether that is a call is decided later.
        if (found.margin > 0 && openMarkers.getValue(found.marker).isNotEmpty()) return listOf(found.marker)
        val decided = weakest
        weakest = Double.POSITIVE_INFINITY
        margins.add(MarkerMargin(position, decided))
        return if (DecisionRule.calls(decided, bias)) completion(openMarkers) else listOf(found.other)
    }
}

/**
 * What is written of a marker once the policy calls: the shortest there is, of several the first listed. Nothing where
 * none is open, as a falsified record may claim.
 */
internal fun completion(openMarkers: Map<Int, List<Int>>): List<Int> =
    openMarkers.map { (following, rest) -> listOf(following) + rest }.minByOrNull { it.size }.orEmpty()

/** Refuses what no token can be chosen from; minus infinity stands for ids never chosen. */
private fun checkLogits(logits: FloatArray, position: Int, largestId: Int) {
    val why = when {
        logits.size <= largestId -> "There are ${logits.size}, the marker has id $largestId"
        logits.any { it.isNaN() } || !logits.max().isFinite() -> "They are not all numbers"
        else -> return
    }
    throw EdgekitException(
        "bad logits: token $position of the response. $why. Export the bundle again.", ErrorKind.BAD_LOGITS,
    )
}

/** Decode one prompt on [model] from an empty cache. */
public fun decode(model: StepModel, promptIds: IntArray, session: DecodeSession): Decision {
    model.reset()
    var token = session.advance(model.prefill(promptIds))
    while (token != null) token = session.advance(model.decode(token))
    return session.decision()
}
