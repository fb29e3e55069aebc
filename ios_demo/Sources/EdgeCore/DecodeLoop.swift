/// A policy that runs token by token with its KV cache inside.
public protocol StepModel: AnyObject {
    var contextLength: Int { get }
    var runtime: RuntimeFacts { get }

    /// Forgets the KV cache.
    func reset() throws

    /// Takes a prompt, or more of one, after what was taken since `reset`; returns the next token's logits.
    func prefill(_ tokenIds: [Int]) throws -> [Float]

    /// Takes one more token; returns the next token's logits.
    func decode(_ tokenId: Int) throws -> [Float]
}

extension StepModel {
    /// Throws ``EdgeError`` if `count` more tokens after `position` do not fit the context.
    public func requireRoom(for count: Int, after position: Int) throws {
        let total = position + count
        if total > contextLength {
            let why = "The artifact holds \(contextLength)"
            throw EdgeError("context full: \(total) tokens. \(why). Shorten the prompt.", .tooLong)
        }
    }
}

/// One prompt being decoded greedily. A bias of -infinity forbids calling.
///
/// Whether to call is decided at a marker's first token that the policy would not write by itself, or at its last: up
/// to there the policy's own text is its own. Called, the rest of the marker is written without asking the model, so
/// a bias decides exactly where margin + bias passes 0, however many tokens the marker has. Elsewhere the marker's
/// tokens are text.
public struct DecodeSession {
    private let promptTokens: Int
    private let limit: Int
    private let bias: Double
    private let onText: ((String) -> Void)?
    private let vocabulary: Vocabulary
    private var decoder: RoutingDecoder
    private var margins: [MarkerMargin] = []
    private var weakest = Double.infinity
    private var shown = 0

    /// `markerBias` nil means the spec's. Throws ``EdgeError`` if the prompt leaves no room to answer.
    public init(
        spec: RoutingSpec, vocabulary: Vocabulary, promptTokens: Int, contextLength: Int,
        markerBias: Double? = nil, onText: ((String) -> Void)? = nil
    ) throws {
        let room = contextLength - promptTokens
        if room < 1 {
            throw EdgeError(
                "prompt too long: \(promptTokens) tokens. The context holds \(contextLength). Shorten it.", .tooLong)
        }
        self.promptTokens = promptTokens
        self.onText = onText
        self.vocabulary = vocabulary
        limit = min(spec.maxNewTokens, room)
        bias = markerBias ?? spec.markerBias
        decoder = RoutingDecoder(spec: spec, vocabulary: vocabulary)
    }

    /// Chooses the next token from `logits`; nil when the response has ended.
    ///
    /// Throws ``EdgeError`` for logits that are no numbers, or too few of them.
    public mutating func advance(_ logits: [Float]) throws -> Int? {
        var fresh = ""
        let chosen = try choose(logits)
        for id in chosen { fresh += decoder.push(id) }
        shown += fresh.unicodeScalars.count
        if !fresh.isEmpty { onText?(fresh) }
        return decoder.isDone || decoder.tokenIds.count >= limit ? nil : chosen.last
    }

    /// The decision, after `advance` returned nil; `onText` gets what was still held back.
    public mutating func decision() -> Decision {
        var decision = decoder.finish()
        let rest = decision.text.unicodeScalars.dropFirst(shown)
        if !rest.isEmpty { onText?(String(rest)) }
        shown = decision.text.unicodeScalars.count
        decision.markerMargin = DecisionRule.largestMargin(margins, bias)
        decision.promptTokens = promptTokens
        decision.margins = margins
        return decision
    }

    /// The next token, or all that is missing of the marker where the policy calls.
    private mutating func choose(_ all: [Float]) throws -> [Int] {
        let position = decoder.tokenIds.count
        let open = decoder.openMarkers(room: limit - position)
        try check(all, position, open.map(\.next).max() ?? 0)
        let logits = vocabulary.onlyTokens(all)
        try check(logits, position, 0)
        if open.isEmpty {
            weakest = .infinity
            return [DecisionRule.largest(logits) { _ in true }]
        }
        let found = DecisionRule.contest(logits, Set(open.map(\.next)))
        weakest = min(weakest, found.margin)
        if found.margin > 0, let own = open.first(where: { $0.next == found.marker }), !own.rest.isEmpty {
            return [found.marker]  // its own next word; whether that is a call is decided later
        }
        let decided = weakest
        weakest = .infinity
        margins.append(MarkerMargin(position: position, margin: decided))
        return DecisionRule.calls(decided, bias) ? completion(of: open) : [found.other]
    }

    /// Refuses what no token can be chosen from; -infinity stands for ids never chosen.
    private func check(_ logits: [Float], _ position: Int, _ largestId: Int) throws {
        let why: String
        if logits.count <= largestId {
            why = "There are \(logits.count), the marker has id \(largestId)"
        } else if logits.contains(where: \.isNaN) || !(logits.max() ?? .nan).isFinite {
            why = "They are not all numbers"
        } else {
            return
        }
        throw EdgeError(
            "bad logits: token \(position) of the response. \(why). Export the bundle again.", .badLogits)
    }
}

/// What is written of a marker once the policy calls: the shortest there is, of several the first listed. Nothing where
/// none is open, as a falsified record may claim.
func completion(of open: [OpenMarker]) -> [Int] {
    guard let shortest = open.min(by: { $0.rest.count < $1.rest.count }) else { return [] }
    return [shortest.next] + shortest.rest
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
