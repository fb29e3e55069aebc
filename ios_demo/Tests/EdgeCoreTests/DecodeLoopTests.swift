import XCTest

@testable import EdgeCore

final class DecodeLoopTests: XCTestCase {
    func testRecordedLogitsOfRealArtifactsGiveTheSameDecisions() throws {
        let shared = try Shared.json("logits_cases.json")
        let spec = try RoutingSpec(shared.fields("routing"))
        let file = try TokenizerFile(Shared.repository.appendingPathComponent(shared.text("tokenizer")))
        let vocabulary = Vocabulary(file, spec: spec)
        let size = try shared.fields("logits").index("vocab_size")
        let name = try shared.fields("logits").text("file")
        let data = try Data(contentsOf: Shared.conformance.appendingPathComponent(name))
        var count = 0
        for entry in try shared.list("cases") {
            let item = try JsonFields(entry)
            let first = try item.index("first_row")
            let rows = (0..<(try item.index("rows"))).map { row(data, first + $0, size) }
            let model = Rows(contextLength: try shared.index("context_length")) { rows[$0] }
            for decision in try item.list("decisions") {
                try replay(JsonFields(decision), item, model, spec, vocabulary)
                count += 1
            }
        }
        XCTAssertGreaterThan(count, 100)
    }

    /// Little-endian float32, as every device edgekit knows stores them.
    private func row(_ data: Data, _ index: Int, _ size: Int) -> [Float] {
        data.withUnsafeBytes { bytes in
            (0..<size).map { bytes.loadUnaligned(fromByteOffset: 4 * (index * size + $0), as: Float.self) }
        }
    }

    private func replay(
        _ wanted: JsonFields, _ item: JsonFields, _ model: Rows, _ shared: RoutingSpec, _ vocabulary: Vocabulary
    ) throws {
        var spec = shared
        if wanted.has("max_new_tokens") { spec.maxNewTokens = try wanted.index("max_new_tokens") }
        let prompt = try item.tokenIds("prompt_token_ids")
        var shown = ""
        var session = try DecodeSession(
            spec: spec, vocabulary: vocabulary, promptTokens: prompt.count,
            contextLength: wanted.has("context_length") ? try wanted.index("context_length") : model.contextLength,
            markerBias: try wanted.numberOrNil("marker_bias") ?? -.infinity, onText: { shown += $0 })
        let got = try decode(model, prompt, &session)
        let expect = try wanted.fields("expect")
        let name = "\(try item.text("name")) at \(wanted.members["marker_bias"]?.write() ?? "")"
        XCTAssertEqual(got.route.rawValue, try expect.text("route"), name)
        XCTAssertEqual(got.reason, try expect.text("reason"), name)
        XCTAssertEqual(got.text.text, try expect.text("text").text, name)
        XCTAssertEqual(got.answer?.text, try expect.textOrNil("answer")?.text, name)
        XCTAssertEqual(got.tokenIds, try expect.tokenIds("token_ids"), name)
        let margin = got.markerMargin.isFinite ? got.markerMargin : nil
        XCTAssertEqual(margin, try expect.numberOrNil("marker_margin"), name)
        XCTAssertEqual(shown.text, got.text.text, name)
    }

    func testAPromptThatFillsTheContextIsRefused() throws {
        let spec = try RoutingSpec(Shared.json("logits_cases.json").fields("routing"))
        XCTAssertThrowsError(
            try DecodeSession(spec: spec, vocabulary: Vocabulary([:]), promptTokens: 8, contextLength: 8))
    }
}
