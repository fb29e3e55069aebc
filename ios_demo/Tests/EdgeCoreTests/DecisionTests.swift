import XCTest

@testable import EdgeCore

final class DecisionTests: XCTestCase {
    func testEverySharedCaseAtEveryBiasDecodedAndDerivedOrRefused() throws {
        let shared = try Shared.json("decision_cases.json")
        let cases = try shared.list("cases").map { try JsonFields($0) }
        XCTAssertGreaterThanOrEqual(cases.count, 80)
        for item in cases { try replay(item, shared) }
    }

    private func replay(_ item: JsonFields, _ shared: JsonFields) throws {
        let name = try item.text("name")
        let spec = try spec(shared.fields("routing"), item)
        var pieces: [Int: [UInt8]] = [:]
        for (id, text) in try shared.fields("pieces").members {
            pieces[try XCTUnwrap(Int(id))] = Array(try XCTUnwrap(text.string).utf8)
        }
        let vocabulary = Vocabulary(pieces)
        let rows = try item.list("rows").map { try XCTUnwrap($0.array).map(logit) }
        let model = Rows(contextLength: try shared.count("context_length")) { rows[min($0, rows.count - 1)] }
        let prompt = try shared.tokenIds("prompt_token_ids")
        func decide(_ bias: Double) throws -> Decision {
            var session = try DecodeSession(
                spec: spec, vocabulary: vocabulary, promptTokens: prompt.count, contextLength: model.contextLength,
                markerBias: bias)
            return try decode(model, prompt, &session)
        }
        if item.has("refused") {
            let refused = try item.text("refused")
            XCTAssertThrowsError(try decide(0), name) { XCTAssertEqual(ErrorKind.of($0).rawValue, refused, name) }
            return
        }
        let solo = try decide(-.infinity)
        let margins = solo.margins.filter(\.margin.isFinite).map { [Double($0.position), $0.margin] }
        let expected = try item.list("margins").map { try XCTUnwrap($0.array).map { try XCTUnwrap($0.number) } }
        XCTAssertEqual(margins, expected, name)
        for recorded in try item.list("decisions").map({ try JsonFields($0) }) {
            let bias = try recorded.numberOrNil("marker_bias") ?? -.infinity
            let got = try decide(bias)
            XCTAssertEqual(got, decision(of: solo, at: bias, spec, vocabulary), "\(name) at \(bias), derived")
            let expect = try recorded.fields("expect")
            XCTAssertEqual(got.route.rawValue, try expect.text("route"), "\(name) at \(bias)")
            XCTAssertEqual(got.reason, try expect.text("reason"), "\(name) at \(bias)")
            XCTAssertEqual(got.text.text, try expect.text("text").text, "\(name) at \(bias)")
            XCTAssertEqual(got.answer?.text, try expect.textOrNil("answer")?.text, "\(name) at \(bias)")
            XCTAssertEqual(got.tokenIds, try expect.tokenIds("token_ids"), "\(name) at \(bias)")
            let margin = got.markerMargin.isFinite ? got.markerMargin : nil
            XCTAssertEqual(margin, try expect.numberOrNil("marker_margin"), "\(name) at \(bias)")
        }
    }

    /// "nan", "inf" and "-inf" stand for what JSON cannot write.
    private func logit(_ value: Json) throws -> Float {
        if let number = value.number { return Float(number) }
        return try XCTUnwrap(["nan": Float.nan, "inf": .infinity, "-inf": -.infinity][try XCTUnwrap(value.string)])
    }

    private func spec(_ routing: JsonFields, _ item: JsonFields) throws -> RoutingSpec {
        var spec = try RoutingSpec(routing)
        if item.has("marker_token_ids") { spec.marker.tokenIds = try item.tokenIdLists("marker_token_ids") }
        if item.has("max_new_tokens") { spec.maxNewTokens = try item.count("max_new_tokens") }
        return spec
    }
}
