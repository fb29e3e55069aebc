/// How often prompts may go to the cloud: at most `share` of any `window` prompts in a row.
///
/// `history` says for each of the last prompts whether it left the phone, the newest last; keep it across
/// starts of the app, or the budget begins anew.
public struct CloudBudget: Sendable {
    public let share: Double
    public let window: Int
    public private(set) var history: [Bool]

    public init(share: Double, window: Int = 20, history: [Bool] = []) throws {
        if !(0...1).contains(share) || window < 1 {
            throw EdgeError("bad budget: \(share) of \(window) prompts. Give a share of 0 to 1 and a window from 1.")
        }
        self.share = share
        self.window = window
        self.history = history.suffix(window - 1)
    }

    /// Calls in all that `window` prompts may make. A share of 0.3 of 10 is 3 although 0.3 * 10 may fall short.
    public var allowed: Int { Int(share * Double(window) + 1e-9) }

    /// How many more prompts may go to the cloud now.
    public var left: Int { max(0, allowed - history.count { $0 }) }

    /// Notes one prompt; `left` counts it from now on.
    public mutating func record(_ leftThePhone: Bool) {
        history = (history + [leftThePhone]).suffix(window - 1)
    }
}

/// What the user sees while a prompt is answered. Called from the session's own thread.
public protocol HybridListener: Sendable {
    /// More visible text.
    func onText(_ text: String)

    /// What was shown so far is void: another answer begins.
    func onRestart()
}

/// What the user gets.
///
/// `route` says which side answered. `reason`: answer (kept), marker or no_answer (handed off or, with
/// on_no_answer local, kept), and where a hand-off was due but the device answered: offline (no cloud,
/// no network, or the cloud failed), budget (spent), consent (refused). `notice` says more, for the user.
public struct HybridAnswer: Sendable {
    public let route: Route
    public let reason: String
    public let text: String
    public let answer: String?
    public let markerMargin: Double
    public let promptTokens: Int
    public let generatedTokens: Int
    public let localMs: Double
    public let cloudMs: Double?
    public let notice: String?
}

/// Answers prompts by device or cloud. A prompt leaves the phone at most once, and only after `mayLeave`
/// said yes to it; `isOnline` and the budget are looked at first, so that nobody is asked in vain.
public actor HybridSession {
    private let bundle: EdgeBundle
    private let model: any StepModel
    private var cloud: (any Cloud)?
    private let isOnline: @Sendable () -> Bool
    private let mayLeave: @Sendable (String) async -> Bool
    private var isAsking = false
    public private(set) var budget: CloudBudget

    public init(
        bundle: EdgeBundle, model: sending any StepModel, cloud: (any Cloud)?, budget: CloudBudget,
        isOnline: @escaping @Sendable () -> Bool, mayLeave: @escaping @Sendable (String) async -> Bool
    ) {
        self.bundle = bundle
        self.model = model
        self.cloud = cloud
        self.budget = budget
        self.isOnline = isOnline
        self.mayLeave = mayLeave
    }

    /// Other settings for the prompts to come.
    public func use(cloud: (any Cloud)?, budget: CloudBudget) {
        self.cloud = cloud
        self.budget = budget
    }

    /// Replays the bundle's conformance cases on this session's model; `onCase` gets each report as it is done.
    public func selfTest(
        device: DeviceFacts, app: AppFacts, onCase: @Sendable (CaseReport) -> Void
    ) throws -> DeviceReport {
        let cases = try SelfTest(bundle: bundle, model: model).run(onCase: onCase)
        return DeviceReport(
            manifest: bundle.manifest, device: device, app: app, runtime: model.runtime, cases: cases)
    }

    /// Decides `prompt` on the device and asks the cloud if the policy calls and may.
    public func ask(_ prompt: String, _ listener: any HybridListener) async throws -> HybridAnswer {
        if isAsking { throw EdgeError("busy: one prompt is being answered. A model takes one at a time. Wait for it.") }
        isAsking = true
        defer { isAsking = false }
        let clock = Stopwatch()
        let decision = try decide(prompt, nil, listener)
        let localMs = clock.ms  // before anyone is asked: the user's own time is not the device's
        if !decision.called {
            budget.record(false)
            return kept(decision, decision, Refusal(decision.reason, nil), localMs)
        }
        let (cloud, refusal) = await mayAsk(prompt)
        budget.record(cloud != nil)
        guard let cloud else { return try alone(prompt, decision, refusal, listener, localMs) }
        let asked = Stopwatch()
        let answer: String
        do {
            answer = try await cloud.answer(prompt)
        } catch {
            return try alone(prompt, decision, Refusal("offline", line(for: error)), listener, localMs)
        }
        listener.onRestart()
        listener.onText(answer)
        return HybridAnswer(
            route: .cloud, reason: decision.reason, text: answer, answer: answer, markerMargin: decision.markerMargin,
            promptTokens: decision.promptTokens, generatedTokens: decision.tokenIds.count, localMs: localMs,
            cloudMs: asked.ms, notice: nil)
    }

    /// Why the device answered, as a reason and a notice.
    private struct Refusal {
        let reason: String
        let notice: String?

        init(_ reason: String, _ notice: String?) {
            self.reason = reason
            self.notice = notice
        }
    }

    /// The cloud if the prompt may leave the phone; else nil and why not.
    private func mayAsk(_ prompt: String) async -> ((any Cloud)?, Refusal) {
        guard let cloud else {
            let notice = "no cloud: none. Nobody to hand off to. Name one in the settings."
            return (nil, Refusal("offline", notice))
        }
        if !isOnline() {
            let notice = "no network: \(cloud.name). The device answers. Ask again when online."
            return (nil, Refusal("offline", notice))
        }
        if budget.left == 0 {
            let spent = "budget spent: \(budget.allowed) of \(budget.window) prompts."
            return (nil, Refusal("budget", "\(spent) The device answers. Raise it or wait."))
        }
        if await !mayLeave(prompt) {
            let notice = "not sent: \(cloud.name). You kept the prompt here. The device answers."
            return (nil, Refusal("consent", notice))
        }
        return (cloud, Refusal("", nil))
    }

    /// The device's own answer, its marker forbidden.
    private func alone(
        _ prompt: String, _ decision: Decision, _ refusal: Refusal, _ listener: any HybridListener,
        _ decisionMs: Double
    ) throws -> HybridAnswer {
        listener.onRestart()
        let clock = Stopwatch()
        let own = try decide(prompt, -.infinity, listener)
        return kept(decision, own, refusal, decisionMs + clock.ms, extra: own.tokenIds.count)
    }

    private func kept(
        _ decision: Decision, _ own: Decision, _ refusal: Refusal, _ localMs: Double, extra: Int = 0
    ) -> HybridAnswer {
        HybridAnswer(
            route: .local, reason: refusal.reason, text: own.text, answer: own.answer,
            markerMargin: decision.markerMargin, promptTokens: decision.promptTokens,
            generatedTokens: decision.tokenIds.count + extra, localMs: localMs, cloudMs: nil, notice: refusal.notice)
    }

    private func decide(_ prompt: String, _ bias: Double?, _ listener: any HybridListener) throws -> Decision {
        let ids = bundle.encode(prompt)
        var session = try DecodeSession(
            spec: bundle.routing, vocabulary: bundle.vocabulary, promptTokens: ids.count,
            contextLength: model.contextLength, markerBias: bias, onText: listener.onText)
        return try decode(model, ids, &session)
    }
}
