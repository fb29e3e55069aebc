/// A policy that runs token by token with its KV cache inside.
public protocol StepModel: AnyObject {
    var contextLength: Int { get }
    var runtime: RuntimeFacts { get }

    /// Forgets the KV cache.
    func reset() throws

    /// Takes a whole prompt from position 0; returns the next token's logits, one a vocabulary entry.
    func prefill(_ tokenIds: [Int]) throws -> [Float]

    /// Takes one more token; returns the next token's logits.
    func decode(_ tokenId: Int) throws -> [Float]
}

/// One prompt being decoded greedily. A bias of -infinity forbids calling.
///
/// The bias and the margin concern only the places where a marker would count: elsewhere it is text.
public struct DecodeSession {
    private let promptTokens: Int
    private let limit: Int
    private let bias: Double
    private let firsts: [Int]
    private let onText: ((String) -> Void)?
    private var decoder: RoutingDecoder
    private var shown = 0
    public private(set) var markerMargin = -Double.infinity

    /// `markerBias` nil means the spec's. Throws ``EdgeError`` if the prompt leaves no room to answer.
    public init(
        spec: RoutingSpec, vocabulary: Vocabulary, promptTokens: Int, contextLength: Int,
        markerBias: Double? = nil, onText: ((String) -> Void)? = nil
    ) throws {
        let room = contextLength - promptTokens
        if room < 1 {
            throw EdgeError(
                "prompt too long: \(promptTokens) tokens. The context holds \(contextLength). Shorten it.")
        }
        self.promptTokens = promptTokens
        self.onText = onText
        limit = min(spec.maxNewTokens, room)
        bias = markerBias ?? spec.markerBias
        firsts = Set(spec.marker.tokenIds.map { $0[0] }).sorted()
        decoder = RoutingDecoder(spec: spec, vocabulary: vocabulary)
    }

    /// Chooses the next token from `logits`; nil when the response has ended.
    public mutating func advance(_ logits: [Float]) throws -> Int? {
        guard let highest = firsts.last, highest < logits.count else {
            throw EdgeError(
                "logits too short: \(logits.count) values. The marker's ids go beyond. Export the bundle again.")
        }
        let token = decoder.markerCounts ? choose(logits) : argmax(logits) { _ in true }
        let fresh = decoder.push(token)
        shown += fresh.unicodeScalars.count
        if !fresh.isEmpty { onText?(fresh) }
        return decoder.isDone || decoder.tokenIds.count >= limit ? nil : token
    }

    /// The decision, after `advance` returned nil; `onText` gets what was still held back.
    public mutating func decision() -> Decision {
        var decision = decoder.finish()
        let rest = decision.text.unicodeScalars.dropFirst(shown)
        if !rest.isEmpty { onText?(String(rest)) }
        shown = decision.text.unicodeScalars.count
        decision.markerMargin = markerMargin
        decision.promptTokens = promptTokens
        return decision
    }

    /// Marker or the best other token, where a marker counts; keeps the largest margin.
    private mutating func choose(_ logits: [Float]) -> Int {
        let best = argmax(logits) { !firsts.contains($0) }
        let marker = argmax(logits) { firsts.contains($0) }
        let margin = Double(logits[marker] - logits[best])
        markerMargin = max(markerMargin, margin + (bias.isInfinite ? 0 : bias))
        return margin + bias > 0 ? marker : best
    }

    /// The first index of the largest value among those that count.
    private func argmax(_ logits: [Float], where counts: (Int) -> Bool) -> Int {
        var best = -1
        for (index, value) in logits.enumerated() where (best < 0 || value > logits[best]) && counts(index) {
            best = index
        }
        return max(best, 0)
    }
}

/// Decodes one prompt on `model` from an empty cache.
public func decode(_ model: any StepModel, _ promptIds: [Int], _ session: inout DecodeSession) throws -> Decision {
    try model.reset()
    var token = try session.advance(model.prefill(promptIds))
    while let current = token {
        token = try session.advance(model.decode(current))
    }
    return session.decision()
}
