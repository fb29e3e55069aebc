import Foundation
import XCTest

@testable import EdgeCore

/// The files every port is tested with, and small makings for tests.
enum Shared {
    static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    static let conformance = repository.appendingPathComponent("tests/conformance")

    static func json(_ name: String) throws -> JsonFields {
        try JsonFields(Json.read(conformance.appendingPathComponent(name)))
    }

    /// Every file of that kind, in the repository and in the folder of more cases that EDGEKIT_CASES names.
    static func files(_ prefix: String) throws -> [URL] {
        let more = ProcessInfo.processInfo.environment["EDGEKIT_CASES"].map { URL(fileURLWithPath: $0) }
        return try [conformance, more].compactMap { $0 }.flatMap { folder in
            try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
                .filter { $0.lastPathComponent.hasPrefix(prefix) && $0.pathExtension == "json" }
                .sorted { $0.path < $1.path }
        }
    }

    /// The tokenizers that a file of cases names from the repository's root or beside it, but those not made.
    static func tokenizers(_ shared: JsonFields, _ file: URL) throws -> [String: Tokenizer] {
        var found: [String: Tokenizer] = [:]
        for (name, path) in try shared.fields("tokenizers").members {
            let path = try XCTUnwrap(path.string)
            let places = [repository, file.deletingLastPathComponent()].map { $0.appendingPathComponent(path) }
            guard let url = places.first(where: { FileManager.default.fileExists(atPath: $0.path) }) else { continue }
            found[name] = try Tokenizer(TokenizerFile(url))
        }
        return found
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
