import XCTest

@testable import EdgeCore

final class TokenizerTests: XCTestCase {
    func testEverySharedCase() throws {
        let shared = try Shared.json("tokenizer_cases.json")
        var tokenizers: [String: Tokenizer] = [:]
        for (name, path) in try shared.fields("tokenizers").members {
            tokenizers[name] = try Shared.tokenizer(XCTUnwrap(path.string)).map { try Tokenizer($0) }
        }
        XCTAssertNotNil(tokenizers["builtin"])
        var counts: [String: Int] = [:]
        for data in try shared.list("cases") {
            let item = try JsonFields(data)
            let name = try item.text("tokenizer")
            guard let tokenizer = tokenizers[name] else { continue }
            counts[name, default: 0] += 1
            let text = try item.text("text")
            XCTAssertEqual(tokenizer.encode(text), try item.tokenIds("ids"), "\(name): \(text.debugDescription)")
        }
        XCTAssertGreaterThan(counts["builtin"] ?? 0, 1000)
        print("tokenizer cases: \(counts.sorted { $0.key < $1.key })")
    }

    func testALongRunIsNoTrap() throws {
        let tokenizer = try Tokenizer(XCTUnwrap(Shared.tokenizer("edgekit/policy/base/tokenizer.json")))
        XCTAssertEqual(tokenizer.encode(String(repeating: "zq", count: 5_000)).count, 10_000)
    }

    func testWhatItCannotDoIsRefusedByName() throws {
        let metaspace = #"{"model": {"vocab": {}, "merges": []}, "pre_tokenizer": {"type": "Metaspace"}}"#
        let unigram = #"{"model": {"type": "Unigram", "vocab": []}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}}"#
        for (text, named) in [(metaspace, "Metaspace"), (unigram, "Unigram")] {
            XCTAssertThrowsError(try Tokenizer(JsonFields(Json.parse(Data(text.utf8))))) { error in
                XCTAssertTrue(line(for: error).contains(named))
            }
        }
    }
}
