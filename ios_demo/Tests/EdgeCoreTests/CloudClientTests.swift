import XCTest

@testable import EdgeCore

final class CloudClientTests: XCTestCase {
    func testTheRequestAndTheAnswer() async throws {
        let transport = FakeTransport(#"{"choices":[{"message":{"content":"so <answer> 3 * 4 </answer>."}}]}"#)
        let cloud = try CloudClient(model: "m", baseUrl: "https://host/v1/", key: "sesame", transport: transport)
        let answer = try await cloud.send(cloud.request("3 4 -> \"12\""), onSent: {}, onText: { _ in })
        XCTAssertEqual(answer, "3 * 4")
        let sent = try XCTUnwrap(transport.sent)
        XCTAssertEqual(sent.url, "https://host/v1/chat/completions")
        XCTAssertEqual(sent.headers["Authorization"], "Bearer sesame")
        let message = try JsonFields(Json.parse(sent.body)).list("messages")[1]
        XCTAssertEqual(try JsonFields(message).text("content"), "3 4 -> \"12\"")
    }

    func testWhatTheServerSaysIsShownAsItComesAndABrokenStreamIsNoAnswer() async throws {
        let events = ["so ", "<answer> 3 ", "+ 4</answer>"].map { #"data: {"choices": [{"delta": {"content": "\#($0)"}}]}"# }
        let whole = ([": a comment"] + events + [#"data: {"choices": [], "usage": {}}"#, "data: [DONE]"])
            .joined(separator: "\n\n")
        let transport = FakeTransport(whole)
        let cloud = try CloudClient(model: "m", baseUrl: "https://host/v1", key: "k", transport: transport)
        var pieces: [String] = []
        let answer = try await cloud.send(cloud.request("x"), onSent: {}, onText: { pieces.append($0) })
        XCTAssertEqual(answer, "3 + 4")
        XCTAssertEqual(pieces, ["so ", "<answer> 3 ", "+ 4</answer>"])
        XCTAssertEqual(try JsonFields(Json.parse(XCTUnwrap(transport.sent).body)).flag("stream"), true)
        for body in ["data: {", "data: [DONE]"] {
            let broken = try CloudClient(
                model: "m", baseUrl: "https://host/v1", key: "k", transport: FakeTransport(body))
            do {
                _ = try await broken.send(broken.request("x"), onSent: {}, onText: { _ in })
                XCTFail("an answer from \(body)")
            } catch {
                XCTAssertEqual((error as? EdgeError)?.kind, .cloudFailed)
            }
        }
    }

    func testFailuresAreOneLineAndNeverShowTheKey() async throws {
        let replies = [("not json", 200), ("{}", 200), (#"{"choices":[{"message":{"content":" "}}]}"#, 200), ("", 500)]
        for (body, status) in replies {
            let transport = FakeTransport(body, status)
            let cloud = try CloudClient(
                model: "sesame", baseUrl: "https://host/v1", key: "sesame", transport: transport)
            do {
                _ = try await cloud.send(cloud.request("q"), onSent: {}, onText: { _ in })
                XCTFail("an answer from \(body)")
            } catch {
                XCTAssertTrue(line(for: error).hasPrefix("cloud failed: ***"))
                XCTAssertFalse(line(for: error).contains("sesame"))
                XCTAssertFalse(line(for: error).contains("\n"))
            }
        }
    }

    func testARefusedKeyAndNoNetworkAreToldApart() async throws {
        let kinds: [(Int, ErrorKind)] = [
            (401, .unauthorized), (403, .unauthorized), (302, .offline), (511, .offline), (429, .cloudFailed),
        ]
        for (status, kind) in kinds {
            let transport = FakeTransport("", status)
            let cloud = try CloudClient(model: "m", baseUrl: "https://host/v1", key: "k", transport: transport)
            do {
                _ = try await cloud.send(cloud.request("q"), onSent: {}, onText: { _ in })
                XCTFail("an answer with status \(status)")
            } catch {
                XCTAssertEqual((error as? EdgeError)?.kind, kind)
            }
        }
    }

    func testAKeyThatNoHeaderCanCarryIsRefusedWithoutBeingShown() {
        for key in ["sk-secr\u{E9}t", "sk-secret\n", "sk secret"] {
            XCTAssertThrowsError(try CloudClient(model: "m", baseUrl: "https://host/v1", key: key)) { error in
                XCTAssertFalse(line(for: error).contains("secr"))
            }
        }
    }

    func testAKeyDoesNotGoOverPlainHttpExceptToThisMachine() {
        for address in ["http://host/v1", "ftp://host/v1", "host/v1", "https://", ""] {
            XCTAssertThrowsError(try CloudClient(model: "m", baseUrl: address, key: "k"), address)
        }
        XCTAssertNoThrow(try CloudClient(model: "m", baseUrl: "http://127.0.0.1:8080/v1", key: "k"))
    }
}

private final class FakeTransport: Transport, @unchecked Sendable {
    private(set) var sent: (url: String, headers: [String: String], body: Data)?
    private let body: String
    private let status: Int

    init(_ body: String, _ status: Int = 200) {
        self.body = body
        self.status = status
    }

    func post(
        _ url: URL, headers: [String: String], body: Data, onLine: (String) throws -> Void
    ) async throws -> HttpReply {
        sent = (url.absoluteString, headers, body)
        for line in self.body.split(separator: "\n", omittingEmptySubsequences: false) { try onLine(String(line)) }
        return HttpReply(status: status, body: Data(self.body.utf8))
    }
}
