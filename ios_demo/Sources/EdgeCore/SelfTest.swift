import Dispatch

/// Replays a bundle's conformance cases on a model, each decoded greedily at the bias that ships (version 1: its own).
public struct SelfTest {
    private let bundle: EdgeBundle
    private let model: any StepModel

    public init(bundle: EdgeBundle, model: any StepModel) {
        self.bundle = bundle
        self.model = model
    }

    /// Every case in turn; `onCase` gets each as it ends.
    public func run(onCase: (CaseReport) -> Void = { _ in }) throws -> [CaseReport] {
        try bundle.conformance().map { item in
            let report = try replay(item)
            onCase(report)
            return report
        }
    }

    /// The prompt goes through the device's own tokenizer, so a fault there shows too.
    private func replay(_ item: ConformanceCase) throws -> CaseReport {
        let promptIds = bundle.encode(item.prompt)
        let timed = TimedModel(model)
        let bias = item.bias(bundle.routing)
        var session = try DecodeSession(
            spec: bundle.routing, vocabulary: bundle.vocabulary, promptTokens: promptIds.count,
            contextLength: model.contextLength, markerBias: bias)
        let decision = try decode(timed, promptIds, &session)
        return CaseReport(
            id: item.id, promptTokenIds: promptIds, decision: decision, markerBias: bias,
            matches: item.expected(bundle.routing, bundle.vocabulary).agrees(with: decision),
            prefillMs: timed.prefillMs, decodeMs: timed.decodeMs)
    }
}

/// Adds up how long a model's steps take.
final class TimedModel: StepModel {
    private let model: any StepModel
    private(set) var prefillMs = 0.0
    private(set) var decodeMs = 0.0

    init(_ model: any StepModel) {
        self.model = model
    }

    var contextLength: Int { model.contextLength }
    var runtime: RuntimeFacts { model.runtime }

    func reset() throws {
        try model.reset()
    }

    func prefill(_ tokenIds: [Int]) throws -> [Float] {
        let clock = Stopwatch()
        defer { prefillMs += clock.ms }
        return try model.prefill(tokenIds)
    }

    func decode(_ tokenId: Int) throws -> [Float] {
        let clock = Stopwatch()
        defer { decodeMs += clock.ms }
        return try model.decode(tokenId)
    }
}

/// Time since it was made, in milliseconds.
struct Stopwatch {
    private let start = DispatchTime.now().uptimeNanoseconds

    var ms: Double { Double(DispatchTime.now().uptimeNanoseconds - start) / 1_000_000 }
}
