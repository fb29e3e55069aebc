import XCTest

@testable import EdgeCore

/// Bytes of memory that belong to no file, as Linux tells them; 0 elsewhere.
private func heapBytes() -> Int {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") }
    return 1024 * (line?.split(whereSeparator: { !$0.isNumber }).first.flatMap { Int($0) } ?? 0)
}

final class TokenizerTests: XCTestCase {
    func testEverySharedCase() throws {
        var counts: [String: Int] = [:]
        for file in try Shared.files("tokenizer_cases") {
            let shared = try JsonFields(Json.read(file))
            let tokenizers = try Shared.tokenizers(shared, file)
            for data in try shared.list("cases") {
                let item = try JsonFields(data)
                let name = try item.text("tokenizer")
                guard let tokenizer = tokenizers[name] else { continue }
                counts[name, default: 0] += 1
                let text = try item.text("text")
                XCTAssertEqual(tokenizer.encode(text), try item.tokenIds("ids"), "\(name): \(text.debugDescription)")
            }
        }
        XCTAssertGreaterThan(counts["builtin"] ?? 0, 1000)
        XCTAssertGreaterThan(counts["llama2"] ?? 0, 200)
        print("tokenizer cases: \(counts.sorted { $0.key < $1.key })")
    }

    /// User text is data: it yields no added token.
    func testEverySharedPrompt() throws {
        var counts: [String: Int] = [:]
        for file in try Shared.files("prompt_cases") {
            let shared = try JsonFields(Json.read(file))
            let tokenizers = try Shared.tokenizers(shared, file)
            let delimiters = try shared.list("delimiters").compactMap(\.string)
            for data in try shared.list("cases") {
                let item = try JsonFields(data)
                let name = try item.text("tokenizer")
                counts[name, default: 0] += 1
                let parts = RoutingSpec.parts(try item.text("template"), try item.text("prompt"))
                let ids = try XCTUnwrap(tokenizers[name]).encode(parts, delimiters: delimiters)
                XCTAssertEqual(ids, try item.tokenIds("ids"), "\(name): \(parts)")
            }
        }
        XCTAssertGreaterThan(counts["builtin"] ?? 0, 50)
        print("prompt cases: \(counts.sorted { $0.key < $1.key })")
    }

    func testALongRunIsNoTrap() throws {
        let builtin = Shared.repository.appendingPathComponent("edgekit/policy/base/tokenizer.json")
        let tokenizer = try Tokenizer(TokenizerFile(builtin))
        XCTAssertEqual(tokenizer.encode(String(repeating: "zq", count: 20_000)).count, 40_000)
    }

    func testManyTokensAreReadInTime() throws {
        let data = try largeTokenizer(151_000)
        let clock = Stopwatch()
        let tokenizer = try Tokenizer(TokenizerFile(data))
        print("151,000 tokens in \(data.count / 1_000_000) MB read in \(Int(clock.ms)) ms")
        XCTAssertEqual(tokenizer.encode("\u{0}\u{0}z").count, 1)
    }

    /// The tokenizers of real models, where more cases are given, in the memory that they keep.
    func testRealTokenizersOpenInLittleMemory() throws {
        for file in try Shared.files("real_") {
            let before = heapBytes()
            let clock = Stopwatch()
            let opened = try TokenizerFile(file)
            let tokenizer = try Tokenizer(opened)
            let ms = Int(clock.ms)
            let heap = heapBytes() - before
            print("opened \(file.lastPathComponent) in \(ms) ms, \(heap / 1_000_000) MB of heap")
            XCTAssertLessThan(heap, 150_000_000)
            XCTAssertFalse(tokenizer.encode("x").isEmpty)
        }
    }

    func testTextsThatLookAlikeAreNotTheSameToken() {
        var table = TokenTable()
        XCTAssertTrue(table.add("\u{E9}", 0))
        XCTAssertTrue(table.add("e\u{301}", 1))
        XCTAssertFalse(table.add("\u{E9}", 2))
        XCTAssertEqual([table.find("\u{E9}"), table.find("e\u{301}"), table.find("e")], [0, 1, nil])
    }

    /// A vocabulary of `count` tokens, every one but the bytes a merge of two others.
    private func largeTokenizer(_ count: Int) throws -> Data {
        let bytes = ByteAlphabet.scalars.map { String($0) }
        var texts: [String] = bytes
        var merges: [String] = []
        for left in bytes + bytes.flatMap({ first in bytes.map { first + $0 } }) where texts.count < count {
            for right in bytes where texts.count < count {
                texts.append(left + right)
                merges.append("[\(Json.string(left).write()),\(Json.string(right).write())]")
            }
        }
        let vocabulary = texts.enumerated().map { "\(Json.string($0.element).write()):\($0.offset)" }
        let level = #"{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}"#
        let lists = #""vocab": {\#(vocabulary.joined(separator: ","))}, "merges": [\#(merges.joined(separator: ","))]"#
        return Data(#"{"pre_tokenizer": \#(level), "model": {"type": "BPE", \#(lists)}}"#.utf8)
    }
}
