package ai.edgekit.core

/**
 * What the policy decides at [markerBias], by its response with the marker forbidden, [solo], and the margins there.
 *
 * Both responses are the same up to the first place where margin + bias passes 0.
 */
public fun decisionAt(solo: Decision, markerBias: Double, spec: RoutingSpec, vocabulary: Vocabulary): Decision {
    val first = solo.margins.indexOfFirst { DecisionRule.calls(it.margin, markerBias) }
    if (first < 0) return solo.copy(markerMargin = DecisionRule.largestMargin(solo.margins, markerBias))
    val margins = solo.margins.take(first + 1)
    val decoder = RoutingDecoder(spec, vocabulary)
    solo.tokenIds.take(margins.last().position).forEach(decoder::push)
    completion(decoder.openMarkers(spec.maxNewTokens)).forEach(decoder::push)
    return decoder.finish().copy(
        markerMargin = DecisionRule.largestMargin(margins, markerBias),
        promptTokens = solo.promptTokens,
        margins = margins,
    )
}
