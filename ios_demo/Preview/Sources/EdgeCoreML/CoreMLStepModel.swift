import EdgeCore
import Foundation

/// Stands in for the Core ML adapter where there is no Core ML: plays the logits that edgekit's simulator gave for the
/// same bundle and prompt with the marker forbidden. Whatever was not recorded is refused.
public final class CoreMLStepModel: StepModel {
    /// What record.py wrote: rows of `vocabSize` little-endian float32, a case's one behind the other.
    private struct Recording: Decodable {
        struct Case: Decodable {
            let promptTokenIds: [Int]
            let tokenIds: [Int]
            let firstRow: Int
        }

        let manifestSha256: String
        let vocabSize: Int
        let cases: [Case]
    }

    public let contextLength: Int
    public let runtime = RuntimeFacts(name: "recorded logits", version: "1")
    private let recording: Recording
    private let logits: Data
    private var current: Recording.Case?
    private var position = 0

    /// The recording lies in the folder that the environment's EDGEKIT_RECORDING names.
    public static func open(_ bundle: EdgeBundle) async throws -> sending CoreMLStepModel {
        let folder = URL(fileURLWithPath: ProcessInfo.processInfo.environment["EDGEKIT_RECORDING"] ?? ".")
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let read = try Data(contentsOf: folder.appending(path: "recording.json"))
        let recording = try decoder.decode(Recording.self, from: read)
        if recording.manifestSha256 != bundle.manifest.sha256 {
            throw EdgeError("another bundle's recording: \(folder.path). It does not fit. Record this bundle.")
        }
        let logits = try Data(contentsOf: folder.appending(path: "recording.f32"))
        return CoreMLStepModel(recording, logits, bundle.manifest.model.contextLength)
    }

    private init(_ recording: Recording, _ logits: Data, _ contextLength: Int) {
        self.recording = recording
        self.logits = logits
        self.contextLength = contextLength
    }

    public func reset() {
        (current, position) = (nil, 0)
    }

    public func prefill(_ tokenIds: [Int]) throws -> [Float] {
        current = recording.cases.first { $0.promptTokenIds == tokenIds }
        return try row("prompt \(tokenIds)")
    }

    public func decode(_ tokenId: Int) throws -> [Float] {
        if current?.tokenIds.dropFirst(position).first != tokenId { current = nil }
        position += 1
        return try row("token \(tokenId) at \(position)")
    }

    private func row(_ what: String) throws -> [Float] {
        guard let current, position < current.tokenIds.count else {
            throw EdgeError("not recorded: \(what). Only what the simulator ran can be played. Record it.")
        }
        let start = 4 * recording.vocabSize * (current.firstRow + position)
        return logits.withUnsafeBytes { bytes in
            (0..<recording.vocabSize).map { bytes.loadUnaligned(fromByteOffset: start + 4 * $0, as: Float.self) }
        }
    }
}
