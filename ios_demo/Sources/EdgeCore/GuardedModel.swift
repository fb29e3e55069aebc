/// A model as a session needs it: whatever its runtime throws is one line (deviceFailed), logits are one number a token
/// of the vocabulary, and between two steps the task's cancellation is heeded.
final class GuardedModel: StepModel {
    private let model: any StepModel
    private let vocabSize: Int

    init(_ model: any StepModel, vocabSize: Int) {
        self.model = model
        self.vocabSize = vocabSize
    }

    var contextLength: Int { model.contextLength }
    var runtime: RuntimeFacts { model.runtime }

    func reset() throws {
        try guarded { try model.reset() }
    }

    func prefill(_ tokenIds: [Int]) throws -> [Float] {
        try logits { try model.prefill(tokenIds) }
    }

    func decode(_ tokenId: Int) throws -> [Float] {
        try logits { try model.decode(tokenId) }
    }

    private func logits(_ step: () throws -> [Float]) throws -> [Float] {
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
