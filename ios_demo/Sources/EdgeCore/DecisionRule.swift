/// A marker's margin, without any bias, at one position of a response.
public struct MarkerMargin: Sendable, Equatable {
    public let position: Int
    public let margin: Double
}

/// Marker against everything else at one step: the best id of each side, and the marker's margin.
struct Contest {
    let marker: Int
    let other: Int
    let margin: Double
}

/// The one decision rule: does the policy call, by the logits of a step at which a marker could go on.
///
/// The margin is the largest logit of the ids that a marker could go on with, less the largest of all others. The
/// policy calls if margin + marker bias is above 0. A bias of -infinity forbids calling.
enum DecisionRule {
    /// The contest for `logits`; `candidates` are the ids that a marker could go on with.
    static func contest(_ logits: [Float], _ candidates: Set<Int>) -> Contest {
        let marker = largest(logits) { candidates.contains($0) }
        let other = largest(logits) { !candidates.contains($0) }
        // The difference is taken in float32, as every port does, so that margins agree to the bit.
        return Contest(marker: marker, other: other, margin: Double(logits[marker] - logits[other]))
    }

    static func calls(_ margin: Double, _ markerBias: Double) -> Bool { margin + markerBias > 0 }

    /// The largest of `margins` with the bias included, an infinite one left out; -infinity if there is none.
    static func largestMargin(_ margins: [MarkerMargin], _ markerBias: Double) -> Double {
        (margins.map(\.margin).max() ?? -.infinity) + (markerBias.isInfinite ? 0 : markerBias)
    }

    /// The first index of the largest logit among those allowed.
    static func largest(_ logits: [Float], where isAllowed: (Int) -> Bool) -> Int {
        var best = -1
        for (index, value) in logits.enumerated() where (best < 0 || value > logits[best]) && isAllowed(index) {
            best = index
        }
        return max(best, 0)
    }
}
