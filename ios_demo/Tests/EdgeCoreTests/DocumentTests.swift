import XCTest

@testable import EdgeCore

/// documents.json: what Python, Kotlin and Swift must take or refuse alike.
final class DocumentTests: XCTestCase {
    func testEveryDocumentIsTakenOrRefusedAsAllPortsDo() throws {
        let folder = try Shared.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        var counts: [String: Int] = [:]
        for entry in try Shared.json("documents.json").list("documents") {
            let document = try JsonFields(entry)
            let read = try document.text("read")
            counts[read, default: 0] += 1
            let name = try document.text("name")
            let (verdict, why) = judge(read, document, try content(document), folder)
            XCTAssertEqual(verdict, try document.text("verdict"), "\(read), \(name): \(why)")
        }
        XCTAssertGreaterThan(counts["routing"] ?? 0, 100)
        print("documents: \(counts.sorted { $0.key < $1.key })")
    }

    func testTheKindsOfErrorAreTheSharedOnes() throws {
        let shared = try Shared.json("documents.json").list("error_kinds").map(\.string)
        XCTAssertEqual(ErrorKind.allCases.map(\.rawValue), shared)
    }

    private func content(_ document: JsonFields) throws -> Data {
        guard let base64 = try document.textOrNil("base64") else { return Data(try document.text("text").utf8) }
        return try XCTUnwrap(Data(base64Encoded: base64))
    }

    private func judge(_ read: String, _ document: JsonFields, _ data: Data, _ folder: URL) -> (String, String) {
        do {
            try take(read, document, data, folder)
            return ("taken", "")
        } catch {
            let why = line(for: error)
            return ((error as? EdgeError)?.kind.rawValue ?? "no EdgeError", why.contains("\n") ? "two lines" : why)
        }
    }

    private func take(_ read: String, _ document: JsonFields, _ data: Data, _ folder: URL) throws {
        func written(_ name: String) throws -> URL {
            let url = folder.appendingPathComponent(name)
            try data.write(to: url)
            return url
        }
        switch read {
        case "json":
            let value = try Json.parse(data)
            if let plain = try document.textOrNil("value") {
                XCTAssertEqual(value, try Json.parse(Data(plain.utf8)))
            }
        case "routing": _ = try RoutingSpec.load(written("routing.json"))
        case "manifest": _ = try BundleManifest.read(written(BundleManifest.file).deletingLastPathComponent())
        case "conformance": _ = try ConformanceCase.readAll(written(ConformanceCase.file))
        case "tokenizer": _ = try Tokenizer(TokenizerFile(data))
        case "logits":
            let marker = #"{"marker": {"text": "<c>", "token_ids": [[1]]}, "stop_token_ids": [2], "max_new_tokens": 8}"#
            let spec = try RoutingSpec(JsonFields(Json.parse(Data(marker.utf8))))
            var session = try DecodeSession(spec: spec, vocabulary: Vocabulary([0: [97], 1: [98], 2: [99]]), promptTokens: 1, contextLength: 8)
            let values = try XCTUnwrap(Json.parse(data).array)
            _ = try session.advance(values.map { Float($0.number ?? Double($0.string ?? "") ?? 0) })
        case "budget":
            let values = try XCTUnwrap(Json.parse(data).array)
            _ = try CloudBudget(share: XCTUnwrap(values[0].number), window: XCTUnwrap(values[1].int))
        default: XCTFail("no reader of \(read)")
        }
    }
}
