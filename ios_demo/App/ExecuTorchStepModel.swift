#if canImport(ExecuTorch)
    import EdgeCore
    import ExecuTorch
    import Foundation

    /// A bundle's model.pte: one method `forward` for prefill and decode, its KV cache inside the program.
    final class ExecuTorchStepModel: StepModel {
        let contextLength: Int
        /// The library does not tell its version.
        let runtime = RuntimeFacts(name: "executorch", version: "as linked (Swift package)")
        private let module: Module
        private var position = 0

        static func open(_ bundle: EdgeBundle) throws -> sending ExecuTorchStepModel {
            let module = Module(filePath: bundle.artifact.path)
            do {
                try module.load("forward")
            } catch {
                throw EdgeError("cannot load \(bundle.artifact.lastPathComponent): \(line(for: error)) Export again.")
            }
            return ExecuTorchStepModel(module, bundle.manifest.model.contextLength)
        }

        private init(_ module: Module, _ contextLength: Int) {
            self.module = module
            self.contextLength = contextLength
        }

        /// Old cache entries may stay: attention masks every slot beyond the position.
        func reset() {
            position = 0
        }

        /// The whole prompt in one call, two if it fills the context: one call takes a token less.
        func prefill(_ tokenIds: [Int]) throws -> [Float] {
            if tokenIds.count < contextLength { return try run(tokenIds) }
            _ = try run(Array(tokenIds.prefix(contextLength - 1)))
            return try run(Array(tokenIds.dropFirst(contextLength - 1)))
        }

        func decode(_ tokenId: Int) throws -> [Float] {
            try run([tokenId])
        }

        /// token_ids (1, T) int64 and position (1) int64 to logits (1, vocab) float32.
        private func run(_ tokenIds: [Int]) throws -> [Float] {
            if position + tokenIds.count > contextLength {
                let total = position + tokenIds.count
                let why = "The artifact holds \(contextLength)"
                throw EdgeError("context full: \(total) tokens. \(why). Shorten the prompt.")
            }
            let tokens = Tensor<Int64>(tokenIds.map(Int64.init), shape: [1, tokenIds.count])
            let start = Tensor<Int64>([Int64(position)], shape: [1])
            let outputs: [Value] = try module.forward([tokens, start])
            guard let logits: Tensor<Float> = outputs.first?.tensor() else {
                throw EdgeError("no logits: model.pte returns none as float32. It is no edgekit export. Export again.")
            }
            position += tokenIds.count
            return logits.scalars()
        }
    }
#endif
