import XCTest

@testable import EdgeCore

final class HybridSessionTests: XCTestCase {
    private static let marker = 660
    private static let answer = [658, 450, 659]  // <answer> 4</answer>: integers carry their space
    private var folder = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        folder = try makeBundle()
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: folder)
    }

    func testAKeptAnswerNeverLeavesThePhone() async throws {
        let cloud = FakeCloud()
        let (answer, _) = try await ask(calls: false, cloud: cloud)
        XCTAssertEqual([answer.route.rawValue, answer.reason, answer.answer], ["local", "answer", "4"])
        XCTAssertEqual(cloud.asked, 0)
    }

    func testACallIsAnsweredByTheCloudOnceAndReplacesWhatWasShown() async throws {
        let cloud = FakeCloud()
        let (answer, seen) = try await ask(calls: true, cloud: cloud)
        XCTAssertEqual([answer.route.rawValue, answer.reason, answer.answer], ["cloud", "marker", "nine"])
        XCTAssertEqual(cloud.asked, 1)
        XCTAssertEqual(seen, "nine")
    }

    func testACloudsWordsAreShownAsTheyComeInPlaceOfTheDevices() async throws {
        let (answer, seen) = try await ask(calls: true, cloud: FakeCloud(streams: true))
        XCTAssertEqual([answer.answer, seen], ["nine", "nine"])
    }

    func testAPromptIsASequenceOfEventsStoppedByWhoeverStopsReading() async throws {
        let session = HybridSession(
            bundle: try EdgeBundle.open(folder), model: Self.script(true), cloud: FakeCloud(), mayLeave: { _ in true })
        var seen: [String] = []
        for try await event in session.events("3 7 -> 10") {
            switch event {
            case .text(let text): seen.append(text)
            case .restart: seen.append("restart")
            case .answered(let answer): seen.append(answer.route.rawValue)
            }
        }
        XCTAssertEqual(seen, ["restart", "nine", "cloud"])
        let kept = HybridSession(bundle: try EdgeBundle.open(folder), model: Self.script(false))
        let answer = try await kept.answer("3 7 -> 10")
        XCTAssertEqual(answer.answer, "4")
    }

    /// The guide's lines, a model of these tests in Core ML's place.
    func testTheLinesOfTheGuideAnswerAPrompt() async throws {
        enum CoreMLStepModel {
            static func open(_ bundle: EdgeBundle) async throws -> sending Rows { HybridSessionTests.script(false) }
        }
        let folder = self.folder
        // guide: begin
        let bundle = try EdgeBundle.open(folder)
        let session = HybridSession(bundle: bundle, model: try await CoreMLStepModel.open(bundle))
        for try await event in session.events("6 5 -> 13") {
            switch event {
            case .text(let text): print(text, terminator: "")
            case .restart: print()
            case .answered(let answer): print("\n\(answer.route): \(answer.reason)")
            }
        }
        // guide: end
    }

    func testALongPromptGoesInByPieces() throws {
        let model = Counted()
        let guarded = GuardedModel(model, vocabSize: 3, chunk: 10)
        _ = try guarded.prefill(Array(repeating: 1, count: 25))
        XCTAssertEqual(model.taken, [10, 10, 5])
    }

    func testMoreTokensThanTheContextHoldsAreRefused() throws {
        let model = Counted()
        XCTAssertNoThrow(try model.requireRoom(for: 4, after: 60))
        XCTAssertThrowsError(try model.requireRoom(for: 5, after: 60)) { error in
            XCTAssertEqual((error as? EdgeError)?.kind, .tooLong)
        }
    }

    func testOffTheScreenAModelWaitsBetweenTwoSteps() async throws {
        let gate = PauseGate()
        gate.close()
        let session = HybridSession(bundle: try EdgeBundle.open(folder), model: Self.script(false), gate: gate)
        let asking = Task { try await session.answer("3 7 -> 10") }
        try await Task.sleep(for: .milliseconds(50))
        gate.open()
        let answer = try await asking.value
        XCTAssertEqual(answer.answer, "4")
    }

    func testOffTheScreenAPromptIsStillStopped() async throws {
        let gate = PauseGate()
        gate.close()
        let session = HybridSession(bundle: try EdgeBundle.open(folder), model: Self.script(false), gate: gate)
        let asking = Task { try await session.answer("3 7 -> 10") }
        asking.cancel()
        let ended = await asking.result
        XCTAssertThrowsError(try ended.get()) { error in XCTAssertEqual((error as? EdgeError)?.kind, .stopped) }
    }

    func testNobodyIsAskedToSendAStoppedPrompt() async throws {
        let cloud = FakeCloud()
        let session = HybridSession(
            bundle: try EdgeBundle.open(folder), model: CancelsItself(), cloud: cloud,
            budget: try CloudBudget(share: 1), isOnline: { true },
            mayLeave: { _ in
                XCTFail("the user was asked")
                return true
            })
        let asking = Task { try await session.answer("3 7 -> 10") }
        let ended = await asking.result
        XCTAssertThrowsError(try ended.get()) { error in XCTAssertEqual((error as? EdgeError)?.kind, .stopped) }
        XCTAssertEqual(cloud.asked, 0)
    }

    func testALongLogBeginsAnewAndTheOneBeforeIsKept() throws {
        let file = folder.deletingLastPathComponent().appendingPathComponent(UUID().uuidString)
        let old = file.appendingPathExtension("old")
        defer { for url in [file, old] { try? FileManager.default.removeItem(at: url) } }
        try Data(repeating: UInt8(ascii: "x"), count: 1_100_000).write(to: file)
        try Data("older".utf8).write(to: old)
        try HandOffLog(file).append(FakeCloud().request("a"))
        XCTAssertEqual(try Data(contentsOf: old).count, 1_100_000)
        XCTAssertEqual(try String(contentsOf: file, encoding: .utf8).split(separator: "\n").count, 1)
    }

    func testWhereACallMayNotOrCannotLeaveTheDeviceAnswersAndSaysWhy() async throws {
        let unwilling = FakeCloud()
        let cases = [
            Case(reason: "offline", notice: "no cloud", cloud: nil),
            Case(reason: "offline", notice: "no network", cloud: unwilling, online: false),
            Case(reason: "budget", notice: "budget spent", cloud: unwilling, share: 0),
            Case(reason: "consent", notice: "not sent", cloud: unwilling, consents: false),
            Case(reason: "offline", notice: "down today", cloud: FakeCloud(fails: true)),
        ]
        for item in cases {
            let (answer, seen) = try await ask(
                calls: true, cloud: item.cloud, share: item.share, online: item.online, consents: item.consents)
            XCTAssertEqual([answer.route.rawValue, answer.reason, answer.answer], ["local", item.reason, "4"])
            XCTAssertTrue(answer.notice?.contains(item.notice) ?? false, answer.notice ?? "")
            XCTAssertEqual(seen, "<answer> 4</answer>")
        }
        XCTAssertEqual(unwilling.asked, 0)
    }

    /// Why a call stays on the phone.
    private struct Case {
        let reason: String
        let notice: String
        let cloud: FakeCloud?
        var share = 1.0
        var online = true
        var consents = true
    }

    func testTheTimeTheUserTakesToAnswerIsNotThePhones() async throws {
        let wait = 1500.0
        for consents in [true, false] {
            let session = HybridSession(
                bundle: try EdgeBundle.open(folder), model: Self.script(true), cloud: FakeCloud(),
                budget: try CloudBudget(share: 1), isOnline: { true },
                mayLeave: { _ in
                    try? await Task.sleep(for: .milliseconds(wait))
                    return consents
                })
            let answer = try await session.ask("3 7 -> 10", Screen())
            XCTAssertLessThan(answer.localMs, wait)
        }
    }

    func testWhatIsShownLoggedAndSentIsOneRequestWithoutWhatMustNotLeave() async throws {
        let cloud = FakeCloud()
        let seen = Seen()
        let session = HybridSession(
            bundle: try EdgeBundle.open(folder), model: Self.script(true), cloud: cloud,
            budget: try CloudBudget(share: 1),
            rules: HandOffRules(redact: { $0.replacingOccurrences(of: "3", with: "[1]") }, log: { seen.add($0) }),
            isOnline: { true },
            mayLeave: { request in
                seen.add(request)
                return true
            })
        _ = try await session.ask("3 7 -> 10", Screen())
        XCTAssertEqual(seen.requests.map(\.prompt), ["[1] 7 -> 10", "[1] 7 -> 10"])
        XCTAssertEqual(cloud.prompts, ["[1] 7 -> 10"])
    }

    func testWhoDoesNotAnswerInTimeRefusesAndTheQuestionIsTakenBack() async throws {
        let cloud = FakeCloud()
        let (ends, end) = AsyncStream.makeStream(of: Bool.self)
        let session = HybridSession(
            bundle: try EdgeBundle.open(folder), model: Self.script(true), cloud: cloud,
            budget: try CloudBudget(share: 1), rules: HandOffRules(consentSeconds: 0.02), isOnline: { true },
            mayLeave: { _ in
                try? await Task.sleep(for: .seconds(60))
                end.yield(Task.isCancelled)
                return true
            })
        let answer = try await session.ask("3 7 -> 10", Screen())
        XCTAssertEqual([answer.reason, answer.answer], ["consent", "4"])
        XCTAssertTrue(answer.notice?.contains("in time") ?? false, answer.notice ?? "")
        let wasTakenBack = await ends.first { _ in true }
        XCTAssertEqual(wasTakenBack, true)
        XCTAssertEqual(cloud.asked, 0)
    }

    func testAPromptIsStoppedWhileTheUserIsAsked() async throws {
        let (asked, ask) = AsyncStream.makeStream(of: Void.self)
        let session = HybridSession(
            bundle: try EdgeBundle.open(folder), model: Self.script(true), cloud: FakeCloud(),
            budget: try CloudBudget(share: 1), isOnline: { true },
            mayLeave: { _ in
                ask.finish()
                try? await Task.sleep(for: .seconds(60))
                return true
            })
        let asking = Task { try await session.answer("3 7 -> 10") }
        for await _ in asked {}
        asking.cancel()
        let ended = await asking.result
        XCTAssertThrowsError(try ended.get()) { error in XCTAssertEqual((error as? EdgeError)?.kind, .stopped) }
    }

    func testConsentIsGivenOrRefusedOnceForAll() async throws {
        for (consent, route) in [(Consent.always, Route.cloud), (.never, .local)] {
            let session = HybridSession(
                bundle: try EdgeBundle.open(folder), model: Self.script(true), cloud: FakeCloud(),
                budget: try CloudBudget(share: 1), rules: HandOffRules(consent: consent), isOnline: { true },
                mayLeave: { _ in
                    XCTFail("the user was asked")
                    return false
                })
            let answer = try await session.ask("3 7 -> 10", Screen())
            XCTAssertEqual(answer.route, route)
        }
    }

    func testOnlyWhatLeftThePhoneIsCounted() async throws {
        for (kind, left) in [(ErrorKind.offline, false), (.cloudFailed, true), (.timedOut, true)] {
            let session = try self.session(calls: true, cloud: FakeCloud(fails: true, kind))
            let answer = try await session.ask("3 7 -> 10", Screen())
            XCTAssertEqual(answer.failure, kind)
            let history = await session.budget.history
            XCTAssertEqual(history, [left])
        }
    }

    func testWhatTheDeviceCannotAnswerGoesToTheCloudAndWithoutOneIsSaidInALine() async throws {
        let long = String(repeating: "1 ", count: 200)
        let handed = try await session(calls: false, cloud: FakeCloud()).ask(long, Screen())
        XCTAssertEqual([handed.route.rawValue, handed.reason], ["cloud", "too_long"])
        let failures: [(ErrorKind, @Sendable () throws -> [Float])] = [
            (.deviceFailed, { throw URLError(.unknown) }), (.badLogits, { [1, 2, 3] }),
            (.badLogits, { [Float](repeating: .nan, count: 672) }),
        ]
        for (kind, step) in failures {
            let answer = try await broken(step, FakeCloud()).ask("3 7 -> 10", Screen())
            XCTAssertEqual([answer.route.rawValue, answer.reason], ["cloud", "device_failed"])
            do {
                _ = try await broken(step, nil).ask("3 7 -> 10", Screen())
                XCTFail("an answer")
            } catch {
                XCTAssertEqual((error as? EdgeError)?.kind, kind)
                XCTAssertTrue(line(for: error).contains("no cloud"))
            }
        }
    }

    func testACancelledPromptEnds() async throws {
        let session = try self.session(calls: false, cloud: nil)
        let asking = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await session.ask("3 7 -> 10", Screen())
        }
        do {
            _ = try await asking.value
            XCTFail("an answer")
        } catch {
            XCTAssertEqual((error as? EdgeError)?.kind, .stopped)
        }
    }

    func testTheLogKeepsWhatLeftWordForWord() async throws {
        let file = folder.deletingLastPathComponent().appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: file) }
        let log = HandOffLog(file)
        for prompt in ["a", "b \"c\""] { try log.append(FakeCloud().request(prompt)) }
        let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
        let kept = try lines.map { try JsonFields(Json.parse(Data($0.utf8))) }
        let last = try kept.map { try JsonFields(XCTUnwrap($0.list("messages").last)).text("content") }
        XCTAssertEqual(last, ["a", "b \"c\""])
        XCTAssertEqual(try kept[0].text("server"), "https://fake")
    }

    private func broken(_ step: @escaping @Sendable () throws -> [Float], _ cloud: FakeCloud?) throws -> HybridSession {
        HybridSession(
            bundle: try EdgeBundle.open(folder), model: Broken(step), cloud: cloud,
            budget: try CloudBudget(share: 1), isOnline: { true }, mayLeave: { _ in true })
    }

    func testTheBudgetHoldsOverAnyWindow() throws {
        var budget = try CloudBudget(share: 0.3, window: 10)
        var history: [Bool] = []
        for _ in 0..<40 {
            let leaves = budget.left > 0
            budget.record(leaves)
            history.append(leaves)
            XCTAssertLessThanOrEqual(history.suffix(10).count { $0 }, 3)
        }
        XCTAssertEqual(history.count { $0 }, 12)
        XCTAssertThrowsError(try CloudBudget(share: 1.5))
    }

    func testTheSelfTestReportsInTheSchema() async throws {
        let session = try self.session(calls: false, cloud: nil)
        let report = try await session.selfTest(
            device: DeviceFacts(model: "m", os: "o"), app: AppFacts(name: "a", version: "1")
        ) { _ in }
        XCTAssertEqual([report.matched, report.mismatched], [1, 0])
        let fields = try JsonFields(Json.parse(Data(report.json().utf8)))
        XCTAssertEqual(
            fields.names, ["app", "bundle", "cases", "device", "format", "matched", "mismatched", "runtime", "version"])
        let item = try JsonFields(fields.list("cases")[0])
        XCTAssertEqual(
            item.names,
            [
                "answer", "decode_ms", "id", "marker_bias", "marker_margin", "outcome", "prefill_ms",
                "prompt_token_ids", "reason", "route", "text", "token_ids",
            ])
        XCTAssertEqual(try item.text("outcome"), "MATCH")
        XCTAssertEqual(try item.tokenIds("token_ids"), Self.answer)
    }

    private func ask(
        calls: Bool, cloud: FakeCloud?, share: Double = 1, online: Bool = true, consents: Bool = true
    ) async throws -> (HybridAnswer, String) {
        let screen = Screen()
        let session = try self.session(calls: calls, cloud: cloud, share: share, online: online, consents: consents)
        return (try await session.ask("3 7 -> 10", screen), screen.text)
    }

    private func session(
        calls: Bool, cloud: FakeCloud?, share: Double = 1, online: Bool = true, consents: Bool = true
    ) throws -> HybridSession {
        HybridSession(
            bundle: try EdgeBundle.open(folder), model: Self.script(calls), cloud: cloud,
            budget: try CloudBudget(share: share), isOnline: { online }, mayLeave: { _ in consents })
    }

    /// Answers 4, after the marker's logit was the highest at first if it `calls`.
    static func script(_ calls: Bool) -> Rows {
        Rows(contextLength: 128) { step in
            var logits = [Float](repeating: 0, count: 672)
            logits[answer[min(step, 2)]] = 5
            logits[marker] = calls && step == 0 ? 9 : -9
            return logits
        }
    }
}
