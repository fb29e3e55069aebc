import EdgeCore
import Foundation
import Observation

/// A request waiting for the user's word: may it leave the phone?
struct ConsentRequest: Identifiable {
    let id = UUID()
    let request: CloudRequest
    let reply: CheckedContinuation<Bool, Never>
}

/// All that the screens show, and the session behind them.
@MainActor @Observable
final class AppModel {
    var prompt = "12 30 -> 42"
    private(set) var bundles: [URL] = []
    private(set) var bundle: EdgeBundle?
    private(set) var status = "Looking for a bundle."
    private(set) var shown = ""
    private(set) var answer: HybridAnswer?
    private(set) var isBusy = false
    private(set) var budget = try? CloudBudget(share: 0.3)
    private(set) var consent: ConsentRequest?
    private(set) var cases: [CaseReport] = []
    private(set) var report: URL?
    let settings = DemoSettings()
    private let network = Reachability()
    private var session: HybridSession?
    private var screen: AsyncStream<ScreenEvent>.Continuation?
    private var asking: Task<HybridAnswer, any Error>?
    private static let consentSeconds = 120.0
    private nonisolated static let log = HandOffLog(
        URL.applicationSupportDirectory.appending(path: "hand-offs.jsonl"))

    /// Which bundles were hashed already.
    private nonisolated static let memory = CheckMemory(
        URL.cachesDirectory.appending(path: "checked-bundles.json"))

    /// Opens the first bundle there is; says how to get one if there is none.
    func openFirstBundle() async {
        bundles = ModelLoader.folders()
        guard let first = bundles.first else {
            status = "no bundle: none found. The app has nothing to run. Run edgekit demo ios BUNDLE and build again."
            return
        }
        if session == nil { await open(first) }
    }

    /// Checks and loads the bundle in `folder`.
    func open(_ folder: URL) async {
        isBusy = true
        defer { isBusy = false }
        status = "Checking \(folder.lastPathComponent)."
        (session, bundle, cases, report, answer, shown) = (nil, nil, [], nil, nil, "")
        do {
            let opened = try await Task.detached { try EdgeBundle.open(folder, memory: Self.memory) }.value
            let need = MemoryNeed(opened.manifest)
            if let free = FreeMemory.bytes {
                status = "Loading \(folder.lastPathComponent): it \(need.against(free))."
                try need.check(free)
            }
            let budget = try settings.budget()
            let session = HybridSession(
                bundle: opened, model: try await ModelLoader.open(opened), cloud: nil, budget: budget,
                isOnline: { [network] in network.isOnline },
                mayLeave: { [weak self] request in await self?.ask(consentFor: request) ?? false })
            (self.session, bundle, self.budget) = (session, opened, budget)
            status = "\(folder.lastPathComponent): \(opened.manifest.target), \(opened.manifest.precision)"
            await apply(saying: nil)
        } catch {
            status = line(for: error)
        }
    }

    /// Takes over changed settings. A bad address leaves the device as it is, without a cloud.
    func apply(saying done: String? = "Settings taken over.") async {
        do {
            let budget = try settings.budget()
            self.budget = budget
            await session?.use(cloud: nil, budget: budget, rules: HandOffRules(log: Self.log.append))
            let cloud = try settings.cloud()
            await session?.use(cloud: cloud, budget: budget, rules: HandOffRules(log: Self.log.append))
            if let done { status = done }
        } catch {
            status = line(for: error)
        }
    }

    /// Answers the prompt on the screen.
    func ask() async {
        guard let session, !isBusy, !prompt.isEmpty else { return }
        isBusy = true
        defer { isBusy = false }
        (answer, shown) = (nil, "")
        let (events, screen) = AsyncStream.makeStream(of: ScreenEvent.self)
        let reader = Task { for await event in events { show(event) } }
        self.screen = screen
        do {
            let asking = Task { [prompt] in try await session.ask(prompt, Screen(events: screen)) }
            self.asking = asking
            answer = try await asking.value
        } catch {
            status = line(for: error)
        }
        screen.finish()
        await reader.value
        budget = await session.budget
        settings.history = budget?.history ?? []
    }

    /// Replays the bundle's recorded cases and writes the report to be shared.
    func runSelfTest() async {
        guard let session, !isBusy else { return }
        isBusy = true
        defer { isBusy = false }
        (cases, report) = ([], nil)
        let (events, screen) = AsyncStream.makeStream(of: CaseReport.self)
        let reader = Task { for await item in events { cases.append(item) } }
        do {
            let made = try await session.selfTest(device: .current(), app: .current()) { screen.yield($0) }
            let url = URL.temporaryDirectory.appending(path: "device-report.json")
            try Data(made.json().utf8).write(to: url)
            report = url
        } catch {
            status = line(for: error)
        }
        screen.finish()
        await reader.value
    }

    /// Ends the prompt that is being answered, at its next token.
    func stop() {
        asking?.cancel()
        reply(false)
    }

    /// The user's word on the request shown.
    func reply(_ mayLeave: Bool) {
        consent?.reply.resume(returning: mayLeave)
        consent = nil
    }

    /// Who does not answer in time refuses.
    private func ask(consentFor request: CloudRequest) async -> Bool {
        guard let screen else { return false }
        let patience = Task {
            try await Task.sleep(for: .seconds(Self.consentSeconds))
            reply(false)
        }
        defer { patience.cancel() }
        // After the text that is still on its way: the user sees the whole attempt before being asked.
        return await withCheckedContinuation { reply in
            screen.yield(.consent(ConsentRequest(request: request, reply: reply)))
        }
    }

    private func show(_ event: ScreenEvent) {
        switch event {
        case .text(let text): shown += text
        case .restart: shown = ""
        case .consent(let request): consent = request
        }
    }
}

private enum ScreenEvent: Sendable {
    case text(String)
    case restart
    case consent(ConsentRequest)
}

/// Carries what the session shows to the screen, in order.
private struct Screen: HybridListener {
    let events: AsyncStream<ScreenEvent>.Continuation

    func onText(_ text: String) {
        events.yield(.text(text))
    }

    func onRestart() {
        events.yield(.restart)
    }
}
