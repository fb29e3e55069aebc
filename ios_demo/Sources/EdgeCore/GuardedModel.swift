import Foundation

/// A model as a session needs it: whatever its runtime throws is one line (deviceFailed), logits are one number a token
/// of the vocabulary, and the task's cancellation is heeded between two tokens and between `chunk` of a long prompt.
final class GuardedModel: StepModel {
    private let model: any StepModel
    private let vocabSize: Int
    private let chunk: Int

    private let gate: PauseGate?

    init(_ model: any StepModel, vocabSize: Int, chunk: Int = 256, gate: PauseGate? = nil) {
        self.model = model
        self.gate = gate
        self.chunk = chunk
        self.vocabSize = vocabSize
    }

    var contextLength: Int { model.contextLength }
    var runtime: RuntimeFacts { model.runtime }

    func reset() throws {
        try guarded { try model.reset() }
    }

    func prefill(_ tokenIds: [Int]) throws -> [Float] {
        var last: [Float] = []
        for begin in stride(from: 0, to: max(1, tokenIds.count), by: chunk) {
            let part = Array(tokenIds[begin..<min(begin + chunk, tokenIds.count)])
            last = try logits { try model.prefill(part) }
        }
        return last
    }

    func decode(_ tokenId: Int) throws -> [Float] {
        try logits { try model.decode(tokenId) }
    }

    private func logits(_ step: () throws -> [Float]) throws -> [Float] {
        gate?.pass()
        try checkNotStopped()
        let logits = try guarded(step)
        if logits.count != vocabSize {
            let why = "The model gave \(logits.count), its vocabulary has \(vocabSize)"
            throw EdgeError("bad logits: wrong length. \(why). Export the bundle again.", .badLogits)
        }
        return logits
    }

    private func guarded<Value>(_ step: () throws -> Value) throws -> Value {
        do {
            return try step()
        } catch {
            throw deviceFailed(error)
        }
    }
}

/// Holds a model between two steps while its processor may not be used: Metal refuses an app in the background.
public final class PauseGate: @unchecked Sendable {
    private let changed = NSCondition()
    private var isClosed = false

    public init() {}

    public func close() {
        changed.withLock { isClosed = true }
    }

    public func open() {
        changed.withLock {
            isClosed = false
            changed.broadcast()
        }
    }

    private static let look = 0.1

    /// Returns once it is open, or its task is cancelled.
    func pass() {
        changed.withLock {
            while isClosed, !Task.isCancelled { _ = changed.wait(until: Date(timeIntervalSinceNow: Self.look)) }
        }
    }
}

/// Throws ``EdgeError`` (stopped) once the task is cancelled.
func checkNotStopped() throws {
    if Task.isCancelled { throw EdgeError("stopped: you stopped this prompt. Ask again.", .stopped) }
}

/// Any failure of the device as one line.
public func deviceFailed(_ error: any Error) -> EdgeError {
    if let known = error as? EdgeError { return known }
    let said = line(for: error).split(whereSeparator: \.isWhitespace).joined(separator: " ").prefix(160)
    return EdgeError("device failed: \(said). The phone could not do it. Ask again.", .deviceFailed)
}
