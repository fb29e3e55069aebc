import XCTest

@testable import EdgeCore

final class RoutingDecoderTests: XCTestCase {
    func testEverySharedCase() throws {
        let shared = try Shared.json("decoder_cases.json")
        let vocabulary = try pieces(shared)
        let cases = try shared.list("cases")
        XCTAssertGreaterThanOrEqual(cases.count, 300)
        for data in cases {
            let item = try JsonFields(data)
            var decoder = RoutingDecoder(spec: try spec(shared, item), vocabulary: vocabulary)
            let ids = try item.tokenIds("token_ids")
            let streamed = ids.map { decoder.push($0) }
            try check(item, decoder.finish(), streamed, ids.count)
        }
    }

    private func pieces(_ shared: JsonFields) throws -> Vocabulary {
        var pieces: [Int: [UInt8]] = [:]
        for (id, text) in try shared.fields("pieces").members {
            pieces[try XCTUnwrap(Int(id))] = Array(try XCTUnwrap(text.string).utf8)
        }
        for (id, text) in try shared.fields("byte_pieces").members {
            pieces[try XCTUnwrap(Int(id))] = Shared.bytes(fromHex: try XCTUnwrap(text.string))
        }
        return Vocabulary(pieces)
    }

    private func spec(_ shared: JsonFields, _ item: JsonFields) throws -> RoutingSpec {
        var spec = try RoutingSpec(shared.fields("routing"))
        if item.has("on_no_answer") { spec.onNoAnswer = try Route.named(item.text("on_no_answer")) }
        if item.has("stop_token_ids") { spec.stopTokenIds = try item.tokenIds("stop_token_ids") }
        if item.has("prompt_template") { spec.promptTemplate = try item.text("prompt_template") }
        if item.has("marker_text") { spec.marker.text = try item.text("marker_text") }
        if item.has("marker_token_ids") { spec.marker.tokenIds = try item.tokenIdLists("marker_token_ids") }
        if item.has("answer") {
            spec.answer.open = try item.fields("answer").text("open")
            spec.answer.close = try item.fields("answer").text("close")
        }
        return spec
    }

    private func check(_ item: JsonFields, _ decision: Decision, _ streamed: [String], _ count: Int) throws {
        let name = try item.text("name")
        let expect = try item.fields("expect")
        XCTAssertEqual(decision.route.rawValue, try expect.text("route"), name)
        XCTAssertEqual(decision.reason, try expect.text("reason"), name)
        XCTAssertEqual(decision.text.text, try expect.text("text").text, name)
        XCTAssertEqual(decision.answer?.text, try expect.textOrNil("answer")?.text, name)
        XCTAssertEqual(decision.tokenIds.count, item.has("token_count") ? try item.index("token_count") : count, name)
        if item.has("streamed") {
            XCTAssertEqual(streamed.map(\.text), try item.list("streamed").map { try XCTUnwrap($0.string).text }, name)
        }
    }
}
