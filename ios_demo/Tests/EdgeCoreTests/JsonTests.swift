import XCTest

@testable import EdgeCore

final class JsonTests: XCTestCase {
    func testTextsComeBackAsWritten() throws {
        let text = "a\"\\/\n\u{0}\u{7F}\u{1F600}e\u{301}\r\n\u{2028}"
        XCTAssertEqual(try Json.parse(Data(Json.string(text).write().utf8)).string?.text, text.text)
        let escaped = Data(#""\ud83d\ude00\u00e9""#.utf8)
        XCTAssertEqual(try Json.parse(escaped).string?.text, "\u{1F600}\u{E9}".text)
    }

    func testNumbersComeBackAsWritten() throws {
        for value in [0, -1, 0.1, -8.368715286254883, 1e-7, 123_456_789_012, 1e300] {
            XCTAssertEqual(try Json.parse(Data(Json.number(value).write().utf8)).number, value)
        }
        XCTAssertEqual(Json.number(-.infinity).write(), "null")
    }

    func testWhatIsNoJsonIsRefused() {
        let deep = String(repeating: "[", count: 100_000)
        for text in ["", "{", "[1,]", "{\"a\" 1}", "\"a", "tru", "1 2", "\"\u{1}\"", "nan", "+", deep] {
            XCTAssertThrowsError(try Json.parse(Data(text.utf8)), String(text.prefix(9)))
        }
    }
}
