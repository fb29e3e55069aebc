import EdgeCore
import ExecuTorch
import Foundation

/// A bundle's model.pte: one method `forward` for prefill and decode, its KV cache inside the program.
public final class ExecuTorchStepModel: StepModel {
    public let contextLength: Int
    /// The library does not tell its version.
    public let runtime = RuntimeFacts(name: "executorch", version: "as linked (Swift package)")
    private let module: Module
    private var position = 0

    public static func open(_ bundle: EdgeBundle) throws -> sending ExecuTorchStepModel {
        // Mapped, not read: weights are paged in, and given back, as they are used.
        let module = Module(filePath: bundle.artifact.path, loadMode: .mmap)
        do {
            try module.load("forward")
        } catch {
            let name = bundle.artifact.lastPathComponent
            throw EdgeError("cannot load \(name): \(line(for: error)) Export again.", .deviceFailed)
        }
        return ExecuTorchStepModel(module, bundle.manifest.model.contextLength)
    }

    private init(_ module: Module, _ contextLength: Int) {
        self.module = module
        self.contextLength = contextLength
    }

    /// Old cache entries may stay: attention masks every slot beyond the position.
    public func reset() {
        position = 0
    }

    /// All of it in one call, two if it fills the context: one call takes a token less.
    public func prefill(_ tokenIds: [Int]) throws -> [Float] {
        if tokenIds.count < contextLength { return try run(tokenIds) }
        _ = try run(Array(tokenIds.prefix(contextLength - 1)))
        return try run(Array(tokenIds.dropFirst(contextLength - 1)))
    }

    public func decode(_ tokenId: Int) throws -> [Float] {
        try run([tokenId])
    }

    /// token_ids (1, T) int64 and position (1) int64 to logits (1, vocab) float32.
    private func run(_ tokenIds: [Int]) throws -> [Float] {
        try requireRoom(for: tokenIds.count, after: position)
        let tokens = Tensor<Int64>(tokenIds.map(Int64.init), shape: [1, tokenIds.count])
        let start = Tensor<Int64>([Int64(position)], shape: [1])
        let outputs: [Value] = try module.forward([tokens, start])
        guard let logits: Tensor<Float> = outputs.first?.tensor() else {
            let why = "model.pte returns none as float32, as edgekit's do"
            throw EdgeError("no logits: 0. \(why). Export again.", .badLogits)
        }
        position += tokenIds.count
        return logits.scalars()
    }
}
