package ai.edgekit.core

/** A policy that runs token by token with its KV cache inside. */
interface StepModel {
    val contextLength: Int

    /** Forget the KV cache. */
    fun reset()

    /** Take a whole prompt from position 0; returns the next token's logits, one a vocabulary entry. */
    fun prefill(tokenIds: IntArray): FloatArray

    /** Take one more token; returns the next token's logits. */
    fun decode(tokenId: Int): FloatArray
}

/**
 * One prompt being decoded greedily. [markerBias] null means the spec's; minus infinity forbids calling.
 *
 * The bias and the margin concern only the places where a marker would count: elsewhere it is text.
 * [onText] gets the visible text as it grows. Throws [EdgekitException] for a prompt longer than the context.
 */
class DecodeSession(
    spec: RoutingSpec,
    vocabulary: Vocabulary,
    private val promptTokens: Int,
    contextLength: Int,
    markerBias: Double? = null,
    private val onText: (String) -> Unit = {},
) {
    private val limit: Int
    private val bias = markerBias ?: spec.markerBias
    private val firsts = spec.marker.tokenIds.map { it[0] }.distinct().sorted().toIntArray()
    private val decoder = RoutingDecoder(spec, vocabulary)
    private var markerMargin = Double.NEGATIVE_INFINITY
    private var shown = 0

    init {
        val room = contextLength - promptTokens
        if (room < 1) {
            throw EdgekitException(
                "prompt too long: $promptTokens tokens. The context holds $contextLength. Shorten it.",
            )
        }
        limit = minOf(spec.maxNewTokens, room)
    }

    /** Choose the next token from [logits]; null when the response has ended. */
    fun advance(logits: FloatArray): Int? {
        val token = if (decoder.markerCounts) chooseWithMarker(logits) else largest(logits) { true }
        val fresh = decoder.push(token)
        shown += fresh.length
        if (fresh.isNotEmpty()) onText(fresh)
        return if (decoder.done || decoder.tokenIds.size >= limit) null else token
    }

    /** The decision, after [advance] returned null; [onText] gets what was still held back. */
    fun decision(): Decision {
        val decision = decoder.finish()
        val rest = decision.text.substring(shown)
        if (rest.isNotEmpty()) onText(rest)
        shown = decision.text.length
        return decision.copy(markerMargin = markerMargin, promptTokens = promptTokens)
    }

    private fun chooseWithMarker(logits: FloatArray): Int {
        val best = largest(logits) { it !in firsts }
        var first = firsts[0]
        for (candidate in firsts) if (logits[candidate] > logits[first]) first = candidate
        // The difference is taken in float32, as every port does, so that margins agree to the bit.
        val margin = (logits[first] - logits[best]).toDouble()
        markerMargin = maxOf(markerMargin, margin + if (bias.isInfinite()) 0.0 else bias)
        return if (margin + bias > 0) first else best
    }

    /** The first index of the largest logit among those [allowed]. */
    private inline fun largest(logits: FloatArray, allowed: (Int) -> Boolean): Int {
        var best = 0
        var value = Float.NEGATIVE_INFINITY
        for (index in logits.indices) {
            if (logits[index] > value && allowed(index)) {
                best = index
                value = logits[index]
            }
        }
        return best
    }
}

/** Decode one prompt on [model] from an empty cache. */
fun decode(model: StepModel, promptIds: IntArray, session: DecodeSession): Decision {
    model.reset()
    var token = session.advance(model.prefill(promptIds))
    while (token != null) token = session.advance(model.decode(token))
    return session.decision()
}
