import Foundation

@testable import EdgeCore

/// The files every port is tested with, and small makings for tests.
enum Shared {
    static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    static let conformance = repository.appendingPathComponent("tests/conformance")

    static func json(_ name: String) throws -> JsonFields {
        try JsonFields(Json.read(conformance.appendingPathComponent(name)))
    }

    /// A tokenizer.json named from the repository's root, or nil if it is one that has not been made.
    static func tokenizer(_ path: String) throws -> JsonFields? {
        let url = repository.appendingPathComponent(path)
        guard FileManager.default.fileExists(atPath: url.path) else { return nil }
        return try JsonFields(Json.read(url))
    }

    static func bytes(fromHex text: String) -> [UInt8] {
        stride(from: 0, to: text.count, by: 2).compactMap { UInt8(text.dropFirst($0).prefix(2), radix: 16) }
    }

    static func temporaryFolder() throws -> URL {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        return url
    }
}

/// A model that plays recorded logits, whatever it is given.
final class Rows: StepModel {
    let contextLength: Int
    let runtime = RuntimeFacts(name: "recorded", version: "1")
    private let row: (Int) -> [Float]
    private var at = 0

    init(contextLength: Int, row: @escaping (Int) -> [Float]) {
        self.contextLength = contextLength
        self.row = row
    }

    func reset() {
        at = 0
    }

    func prefill(_ tokenIds: [Int]) -> [Float] {
        row(0)
    }

    func decode(_ tokenId: Int) -> [Float] {
        at += 1
        return row(at)
    }
}
