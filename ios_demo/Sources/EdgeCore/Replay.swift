/// What the policy decides at `markerBias`, by its response with the marker forbidden, `solo`, and the margins there.
///
/// Both responses are the same up to the first place where margin + bias passes 0.
public func decision(
    of solo: Decision, at markerBias: Double, _ spec: RoutingSpec, _ vocabulary: Vocabulary
) -> Decision {
    guard let first = solo.margins.firstIndex(where: { DecisionRule.calls($0.margin, markerBias) }) else {
        var kept = solo
        kept.markerMargin = DecisionRule.largestMargin(solo.margins, markerBias)
        return kept
    }
    let margins = Array(solo.margins[...first])
    var decoder = RoutingDecoder(spec: spec, vocabulary: vocabulary)
    for id in solo.tokenIds.prefix(margins[first].position) { _ = decoder.push(id) }
    for id in completion(of: decoder.openMarkers(room: spec.maxNewTokens)) { _ = decoder.push(id) }
    var called = decoder.finish()
    called.markerMargin = DecisionRule.largestMargin(margins, markerBias)
    called.promptTokens = solo.promptTokens
    called.margins = margins
    return called
}
