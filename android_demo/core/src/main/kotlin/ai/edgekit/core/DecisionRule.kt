package ai.edgekit.core

/** A marker's margin, without any bias, at one position of a response. */
public data class MarkerMargin(val position: Int, val margin: Double)

/** Marker against everything else at one step: the best id of each side, and the marker's margin. */
public data class Contest(val marker: Int, val other: Int, val margin: Double)

/**
 * The one decision rule: does the policy call, by the logits of a step at which a marker could go on.
 *
 * The margin is the largest logit of the ids that a marker could go on with, less the largest of all others. The policy
 * calls if margin + marker bias is above 0. A bias of minus infinity forbids calling.
 */
public object DecisionRule {
    /** The contest for [logits]; [candidates] are the ids that a marker could go on with. */
    public fun contest(logits: FloatArray, candidates: Set<Int>): Contest {
        val marker = largest(logits) { it in candidates }
        val other = largest(logits) { it !in candidates }
        // The difference is taken in float32, as every port does, so that margins agree to the bit.
        return Contest(marker, other, (logits[marker] - logits[other]).toDouble())
    }

    public fun calls(margin: Double, markerBias: Double): Boolean = margin + markerBias > 0

    /** The largest of [margins] with the bias included, an infinite one left out; minus infinity if there is none. */
    public fun largestMargin(margins: List<MarkerMargin>, markerBias: Double): Double =
        (margins.maxOfOrNull { it.margin } ?: Double.NEGATIVE_INFINITY) + if (markerBias.isInfinite()) 0.0 else markerBias

    /** The first index of the largest logit among those [allowed]. */
    public inline fun largest(logits: FloatArray, allowed: (Int) -> Boolean): Int {
        var best = -1
        for (index in logits.indices) {
            if ((best < 0 || logits[index] > logits[best]) && allowed(index)) best = index
        }
        return maxOf(best, 0)
    }
}
