import CoreML
import EdgeCore
import Foundation

/// A bundle's Core ML package: functions `prefill` (a fixed chunk of tokens) and `decode` (one) over one KV state.
///
/// A prompt goes through `prefill` in chunks, the last one filled up with copies of its last token; `decode`
/// then takes that token in its own place. The copies lie in slots after it, which the mask hides until
/// later tokens overwrite them.
public final class CoreMLStepModel: StepModel {
    public let contextLength: Int
    public let runtime: RuntimeFacts
    private let chunk: Int
    private let prefillFunction: MLModel
    private let decodeFunction: MLModel
    private var state: MLState
    private var position = 0

    /// Compiles the package on first use (the result is kept in Caches) and loads both functions.
    public static func open(_ bundle: EdgeBundle) async throws -> sending CoreMLStepModel {
        let compiled = URL.cachesDirectory.appending(path: bundle.manifest.sha256 + ".mlmodelc")
        do {
            if !FileManager.default.fileExists(atPath: compiled.path) {
                try FileManager.default.moveItem(at: await MLModel.compileModel(at: bundle.artifact), to: compiled)
            }
            return try CoreMLStepModel(compiled, bundle.manifest.model)
        } catch {
            let name = bundle.artifact.lastPathComponent
            throw EdgeError("cannot load \(name): \(line(for: error)) It needs iOS 18. Export again.", .deviceFailed)
        }
    }

    private init(_ compiled: URL, _ facts: ModelFacts) throws {
        contextLength = facts.contextLength
        chunk = facts.prefillChunk
        let os = ProcessInfo.processInfo.operatingSystemVersion
        runtime = RuntimeFacts(name: "Core ML", version: "\(os.majorVersion).\(os.minorVersion).\(os.patchVersion)")
        prefillFunction = try Self.load(compiled, function: "prefill")
        decodeFunction = try Self.load(compiled, function: "decode")
        state = decodeFunction.makeState()
    }

    private static func load(_ compiled: URL, function: String) throws -> MLModel {
        let configuration = MLModelConfiguration()
        configuration.functionName = function
        // The Neural Engine does not take every stateful program; CPU and GPU do.
        configuration.computeUnits = .cpuAndGPU
        return try MLModel(contentsOf: compiled, configuration: configuration)
    }

    public func reset() {
        state = decodeFunction.makeState()
        position = 0
    }

    public func prefill(_ tokenIds: [Int]) throws -> [Float] {
        guard let last = tokenIds.last else {
            throw EdgeError("empty prompt: 0 tokens. Nothing to continue. Type one.")
        }
        try requireRoom(for: tokenIds.count, after: position)
        var logits: [Float] = []
        var left = tokenIds[...]
        while left.count > 1, position + chunk <= contextLength {
            let part = left.prefix(chunk)
            let short = chunk - part.count
            logits = try step(prefillFunction, part + Array(repeating: last, count: short))
            left = left.dropFirst(chunk)
            if short > 0 {
                position -= short + 1
                left = [last]
            }
        }
        for token in left {
            logits = try step(decodeFunction, [token])
        }
        return logits
    }

    public func decode(_ tokenId: Int) throws -> [Float] {
        try step(decodeFunction, [tokenId])
    }

    /// token_ids (1, T) int32 and position (1) int32 to logits (1, vocab) float32.
    private func step(_ function: MLModel, _ tokenIds: ArraySlice<Int>) throws -> [Float] {
        try requireRoom(for: tokenIds.count, after: position)
        let tokens = MLShapedArray<Int32>(scalars: tokenIds.map(Int32.init), shape: [1, tokenIds.count])
        let start = MLShapedArray<Int32>(scalars: [Int32(position)], shape: [1])
        let inputs = try MLDictionaryFeatureProvider(dictionary: [
            "token_ids": MLFeatureValue(shapedArray: tokens), "position": MLFeatureValue(shapedArray: start),
        ])
        let outputs = try function.prediction(from: inputs, using: state)
        guard let logits = outputs.featureValue(for: "logits")?.shapedArrayValue(of: Float.self) else {
            let why = "The package returns none as float32, as edgekit's do"
            throw EdgeError("no logits: 0. \(why). Export again.", .badLogits)
        }
        position += tokenIds.count
        return logits.scalars
    }
}
