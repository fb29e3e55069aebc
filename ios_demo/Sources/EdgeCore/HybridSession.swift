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
/// no network, or the cloud failed), budget (spent), consent (refused). A prompt that the device cannot answer is due
/// too: too_long, device_failed. `notice` says more, for the user; `failure` is the kind of what went wrong, if any did.
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
    public let failure: ErrorKind?
}

/// What must hold before a prompt may leave the phone.
public struct HandOffRules: Sendable {
    public var consent: Consent
    /// What must not leave is replaced in the user's words before the request is made.
    public var redact: @Sendable (String) -> String
    /// Keeps what is about to be sent. A request that cannot be kept is not sent.
    public var log: @Sendable (CloudRequest) throws -> Void
    /// How long the user has to answer; who has not by then refuses.
    public var consentSeconds: Double

    public init(
        consent: Consent = .ask, redact: @escaping @Sendable (String) -> String = { $0 },
        log: @escaping @Sendable (CloudRequest) throws -> Void = { _ in }, consentSeconds: Double = 120
    ) {
        self.consent = consent
        self.redact = redact
        self.log = log
        self.consentSeconds = consentSeconds
    }
}

/// Answers prompts by device or cloud. A prompt leaves the phone at most once, as one frozen request: made when the
/// policy calls, shown to `mayLeave`, logged, counted in the budget, sent. `isOnline` and the budget are looked at
/// first, so that nobody is asked in vain. `mayLeave` is cancelled once the question is void: after the rules'
/// `consentSeconds`, or when the prompt is stopped.
public actor HybridSession {
    private let bundle: EdgeBundle
    private let model: any StepModel
    private let guarded: GuardedModel
    private var cloud: (any Cloud)?
    private var rules: HandOffRules
    private let isOnline: @Sendable () -> Bool
    private let mayLeave: @Sendable (CloudRequest) async -> Bool
    private var isAsking = false
    public private(set) var budget: CloudBudget

    public init(
        bundle: EdgeBundle, model: sending any StepModel, cloud: (any Cloud)? = nil, budget: CloudBudget = .usual,
        rules: HandOffRules = HandOffRules(), isOnline: @escaping @Sendable () -> Bool = { true },
        mayLeave: @escaping @Sendable (CloudRequest) async -> Bool = { _ in false }, gate: PauseGate? = nil
    ) {
        self.bundle = bundle
        self.model = model
        guarded = GuardedModel(model, vocabSize: bundle.manifest.model.vocabSize, gate: gate)
        self.cloud = cloud
        self.budget = budget
        self.rules = rules
        self.isOnline = isOnline
        self.mayLeave = mayLeave
    }

    /// Other settings for the prompts to come.
    public func use(cloud: (any Cloud)?, budget: CloudBudget, rules: HandOffRules) {
        self.cloud = cloud
        self.budget = budget
        self.rules = rules
    }

    /// Other rules, from the next look at them.
    public func use(rules: HandOffRules) {
        self.rules = rules
    }

    /// Replays the bundle's conformance cases on this session's model; `onCase` gets each report as it is done.
    public func selfTest(
        device: DeviceFacts, app: AppFacts, onCase: @Sendable (CaseReport) -> Void
    ) throws -> DeviceReport {
        let cases = try SelfTest(bundle: bundle, model: guarded).run(onCase: onCase)
        return DeviceReport(
            manifest: bundle.manifest, device: device, app: app, runtime: model.runtime, cases: cases)
    }

    /// Decides `prompt` on the device and asks the cloud if the policy calls and may; stops when its task is cancelled.
    ///
    /// Throws ``EdgeError``: busy, stopped, or what kept both sides from an answer.
    public func ask(_ prompt: String, _ listener: any HybridListener) async throws -> HybridAnswer {
        if isAsking {
            let why = "One prompt is being answered, a model takes one at a time"
            throw EdgeError("busy: another prompt. \(why). Wait for it.", .busy)
        }
        isAsking = true
        defer { isAsking = false }
        var run = Run(prompt: prompt, listener: listener)
        var failure: EdgeError?
        do {
            run.first = try decide(&run, nil)
        } catch let error as EdgeError where Self.deviceCannot.contains(error.kind) {
            failure = error
        }
        if let first = run.first, !first.called {
            budget.record(false)
            return kept(run, first.reason, first, nil)
        }
        let reason = run.first?.reason ?? (failure?.kind == .tooLong ? "too_long" : "device_failed")
        var hasLeft = false
        defer { budget.record(hasLeft) }
        do {
            return try await handOff(run, reason, &hasLeft)
        } catch let refusal as NotSent {
            if let failure {
                throw EdgeError("\(failure.message) And no hand-off: \(refusal.notice)", failure.kind)
            }
            listener.onRestart()
            let own = try decide(&run, -.infinity)
            return kept(run, refusal.reason, own, refusal)
        }
    }

    /// What the device cannot answer, and a cloud may.
    private static let deviceCannot: Set<ErrorKind> = [.tooLong, .deviceFailed, .badLogits]

    /// One prompt on its way.
    private struct Run {
        let prompt: String
        let listener: any HybridListener
        var first: Decision?
        var tokens = 0
        var localMs = 0.0
    }

    /// The cloud was not asked, or did not answer; `reason` and `notice` are for the user.
    private struct NotSent: Error {
        let reason: String
        let notice: String
        var kind: ErrorKind?
    }

    private func handOff(_ run: Run, _ reason: String, _ hasLeft: inout Bool) async throws -> HybridAnswer {
        let (cloud, request) = try await allowed(run.prompt)
        try checkNotStopped()
        let clock = Stopwatch()
        let answer: String
        var shown: String?
        do {
            try rules.log(request)
            answer = try await cloud.send(request, onSent: { hasLeft = true }) { piece in
                try checkNotStopped()
                if shown == nil { run.listener.onRestart() }
                shown = (shown ?? "") + piece
                run.listener.onText(piece)
            }
        } catch {
            try checkNotStopped()
            let told = deviceFailed(error)
            throw NotSent(reason: "offline", notice: told.message, kind: told.kind)
        }
        try checkNotStopped()
        if shown.map({ !$0.isIdentical(to: answer) }) ?? true {
            run.listener.onRestart()
            run.listener.onText(answer)
        }
        return HybridAnswer(
            route: .cloud, reason: reason, text: answer, answer: answer, markerMargin: margin(run),
            promptTokens: run.first?.promptTokens ?? 0, generatedTokens: run.tokens, localMs: run.localMs,
            cloudMs: clock.ms, notice: nil, failure: nil)
    }

    /// The cloud and the one request that may go to it.
    private func allowed(_ prompt: String) async throws -> (any Cloud, CloudRequest) {
        guard let cloud else {
            let notice = "no cloud: none. Nobody to hand off to. Name one in the settings."
            throw NotSent(reason: "offline", notice: notice)
        }
        if rules.consent == .never {
            let notice = "not sent: \(cloud.name). Prompts stay here. Allow it in the settings."
            throw NotSent(reason: "consent", notice: notice)
        }
        if !isOnline() {
            let notice = "no network: \(cloud.name). The device answers. Ask again when online."
            throw NotSent(reason: "offline", notice: notice)
        }
        if budget.left == 0 {
            let spent = "budget spent: \(budget.allowed) of \(budget.window) prompts"
            throw NotSent(reason: "budget", notice: "\(spent). The device answers. Raise it or wait.")
        }
        try checkNotStopped()
        let request = cloud.request(rules.redact(prompt))
        if rules.consent == .ask { try await ask(for: request, to: cloud.name) }
        return (cloud, request)
    }

    /// Returns if the user lets `request` go to `cloud`.
    private func ask(for request: CloudRequest, to cloud: String) async throws {
        let (answers, answer) = AsyncStream.makeStream(of: Bool.self)
        let asking = Task { [mayLeave] in
            answer.yield(await mayLeave(request))
            answer.finish()
        }
        let patience = Task { [seconds = rules.consentSeconds] in
            try await Task.sleep(for: .seconds(seconds))
            answer.finish()
        }
        defer {
            asking.cancel()
            patience.cancel()
        }
        let given = await answers.first { _ in true }
        try checkNotStopped()
        guard let given else {
            let notice = "not sent: \(cloud). Nobody answered in time. The device does."
            throw NotSent(reason: "consent", notice: notice)
        }
        if !given {
            let notice = "not sent: \(cloud). You kept the prompt here. The device answers."
            throw NotSent(reason: "consent", notice: notice)
        }
    }

    private func kept(_ run: Run, _ reason: String, _ own: Decision, _ refusal: NotSent?) -> HybridAnswer {
        HybridAnswer(
            route: .local, reason: reason, text: own.text, answer: own.answer, markerMargin: margin(run),
            promptTokens: own.promptTokens, generatedTokens: run.tokens, localMs: run.localMs, cloudMs: nil,
            notice: refusal?.notice, failure: refusal?.kind)
    }

    private func margin(_ run: Run) -> Double { run.first?.markerMargin ?? -.infinity }

    private func decide(_ run: inout Run, _ bias: Double?) throws -> Decision {
        let clock = Stopwatch()
        defer { run.localMs += clock.ms }
        let ids = bundle.encode(run.prompt)
        var session = try DecodeSession(
            spec: bundle.routing, vocabulary: bundle.vocabulary, promptTokens: ids.count,
            contextLength: guarded.contextLength, markerBias: bias, onText: run.listener.onText)
        let decision = try decode(guarded, ids, &session)
        run.tokens += decision.tokenIds.count
        return decision
    }
}
