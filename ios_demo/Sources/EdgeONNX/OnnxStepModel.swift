import EdgeCore
import Foundation
import OnnxRuntimeBindings

/// A bundle's model.onnx of the fused layout: every cache buffer is both input and output, written in place.
public final class OnnxStepModel: StepModel {
    public let contextLength: Int
    public let runtime: RuntimeFacts
    private let environment: ORTEnv
    private let session: ORTSession
    private let caches: [String: ORTValue]
    private let logits: NSMutableData
    private let logitsValue: ORTValue
    private let vocabSize: Int
    private var position = 0

    private static let here = RuntimeFacts(name: "onnxruntime", version: ORTVersion() ?? "unknown")

    public static func open(_ bundle: EdgeBundle) throws -> sending OnnxStepModel {
        do {
            // Its caches are as large as the manifest says; what no phone has, Foundation ends the app for.
            try MemoryNeed(bundle.manifest).check(Int(clamping: ProcessInfo.processInfo.physicalMemory))
            // Before it is loaded: an older runtime knows no cache of integers, and would say so in its own words.
            try bundle.manifest.runtime.check(Self.here)
            return try OnnxStepModel(bundle.artifact, bundle.manifest.model)
        } catch let error as EdgeError where error.kind == .unsupported {
            throw error
        } catch {
            let name = bundle.artifact.lastPathComponent
            throw EdgeError("cannot load \(name): \(line(for: error)) Export again.", .deviceFailed)
        }
    }

    private init(_ artifact: URL, _ facts: ModelFacts) throws {
        contextLength = facts.contextLength
        vocabSize = facts.vocabSize
        runtime = Self.here
        environment = try ORTEnv(loggingLevel: .error)
        let options = try ORTSessionOptions()
        try options.setIntraOpNumThreads(2)
        session = try ORTSession(env: environment, modelPath: artifact.path, sessionOptions: options)
        let names = try session.inputNames()
        guard let heads = facts.keyValueHeads, let dim = facts.headDim, !names.contains("attention_mask") else {
            throw EdgeError("The app reads the fused layout, with the head sizes in the manifest.")
        }
        let filled = (dim + 7) / 8 * 8  // the operator's heads are multiples of 8: the graph fills shorter ones up
        let shape = [1, heads, contextLength, filled]
        var caches: [String: ORTValue] = [:]
        for name in names where name.hasPrefix("past_") {
            caches[name] = try Self.tensor(NSMutableData(length: shape.reduce(4, *)), .float, shape)
        }
        self.caches = caches
        let buffer = NSMutableData(length: 4 * vocabSize)
        logitsValue = try Self.tensor(buffer, .float, [1, vocabSize])
        logits = try logitsValue.tensorData()
    }

    /// Old cache entries may stay: attention ends at the position.
    public func reset() {
        position = 0
    }

    public func prefill(_ tokenIds: [Int]) throws -> [Float] {
        try run(tokenIds)
    }

    public func decode(_ tokenId: Int) throws -> [Float] {
        try run([tokenId])
    }

    /// input_ids (1, T) int64 and position (1) int64 to logits (1, vocab) float32.
    private func run(_ tokenIds: [Int]) throws -> [Float] {
        try requireRoom(for: tokenIds.count, after: position)
        var inputs = caches
        inputs["input_ids"] = try Self.integers(tokenIds, [1, tokenIds.count])
        inputs["position"] = try Self.integers([position], [1])
        var outputs = ["logits": logitsValue]
        for (name, value) in caches {
            outputs["present_" + name.dropFirst("past_".count)] = value
        }
        try session.run(withInputs: inputs, outputs: outputs, runOptions: nil)
        position += tokenIds.count
        return (logits as Data).withUnsafeBytes { Array($0.bindMemory(to: Float.self).prefix(vocabSize)) }
    }

    private static func integers(_ values: [Int], _ shape: [Int]) throws -> ORTValue {
        let data = values.map(Int64.init).withUnsafeBytes { NSMutableData(bytes: $0.baseAddress, length: $0.count) }
        return try tensor(data, .int64, shape)
    }

    private static func tensor(
        _ data: NSMutableData?, _ type: ORTTensorElementDataType, _ shape: [Int]
    ) throws -> ORTValue {
        guard let data else {
            throw EdgeError("out of memory: a tensor of \(shape). The phone has no room. Close apps.", .deviceFailed)
        }
        return try ORTValue(tensorData: data, elementType: type, shape: shape.map { NSNumber(value: $0) })
    }
}
