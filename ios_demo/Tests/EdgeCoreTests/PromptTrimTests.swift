import XCTest

@testable import EdgeCore

/// trim_cases.json: what is dropped around a prompt.
final class PromptTrimTests: XCTestCase {
    func testWhiteSpaceIsDroppedAsAllPortsDo() throws {
        let cases = try Shared.json("trim_cases.json").list("cases").map { try JsonFields($0) }
        XCTAssertGreaterThan(cases.count, 20)
        for each in cases {
            let trim = try PromptTrim.named(each.text("trim"))
            let expected = try each.text("trimmed").unicodeScalars
            XCTAssertEqual(Array(trim.trimmed(try each.text("prompt")).unicodeScalars), Array(expected))
        }
    }
}
