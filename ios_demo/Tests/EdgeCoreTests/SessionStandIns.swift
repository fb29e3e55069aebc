// What a session meets in the tests: clouds, models and screens that do as they are told.

import XCTest

@testable import EdgeCore

final class FakeCloud: Cloud, @unchecked Sendable {
    let name = "fake"
    private(set) var asked = 0
    private(set) var prompts: [String] = []
    private let fails: Bool
    private let streams: Bool
    private let kind: ErrorKind

    init(fails: Bool = false, streams: Bool = false, _ kind: ErrorKind = .cloudFailed) {
        self.fails = fails
        self.streams = streams
        self.kind = kind
    }

    func request(_ prompt: String) -> CloudRequest {
        CloudRequest(server: "https://fake", model: "fake", messages: [Message(role: "user", content: prompt)])
    }

    func send(
        _ request: CloudRequest, onSent: () -> Void, onText: (String) throws -> Void
    ) async throws -> String {
        if kind != .offline { onSent() }
        asked += 1
        prompts.append(request.prompt)
        if fails { throw EdgeError("cloud failed: fake. It is down today. Ask tomorrow.", kind) }
        if streams { for letter in "nine" { try onText(String(letter)) } }
        return "nine"
    }
}

/// Requests in the order they were seen.
final class Seen: @unchecked Sendable {
    private(set) var requests: [CloudRequest] = []

    func add(_ request: CloudRequest) {
        requests.append(request)
    }
}

/// A model whose every step is the same.
final class Broken: StepModel {
    let contextLength = 64
    let runtime = RuntimeFacts(name: "broken", version: "1")
    private let step: () throws -> [Float]

    init(_ step: @escaping () throws -> [Float]) {
        self.step = step
    }

    func reset() {}

    func prefill(_ tokenIds: [Int]) throws -> [Float] { try step() }

    func decode(_ tokenId: Int) throws -> [Float] { try step() }
}

/// Wants to call, and its task is cancelled meanwhile.
final class CancelsItself: StepModel {
    let contextLength = 128
    let runtime = RuntimeFacts(name: "cancels", version: "1")

    func reset() {}

    func prefill(_ tokenIds: [Int]) -> [Float] {
        withUnsafeCurrentTask { $0?.cancel() }
        return (0..<672).map { $0 == 660 ? 9 : 0 }
    }

    func decode(_ tokenId: Int) -> [Float] { [] }
}

/// Notes how many tokens it is given at a time.
final class Counted: StepModel {
    let contextLength = 64
    let runtime = RuntimeFacts(name: "counted", version: "1")
    private(set) var taken: [Int] = []

    func reset() {}

    func prefill(_ tokenIds: [Int]) -> [Float] {
        taken.append(tokenIds.count)
        return [0, 0, 0]
    }

    func decode(_ tokenId: Int) -> [Float] { [0, 0, 0] }
}

final class Screen: HybridListener, @unchecked Sendable {
    private(set) var text = ""

    func onText(_ text: String) {
        self.text += text
    }

    func onRestart() {
        text = ""
    }
}
