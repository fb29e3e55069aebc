import EdgeCore
import Foundation
import Observation
import UIKit

/// A request waiting for the user's word: may it leave the phone?
struct ConsentRequest: Identifiable {
    let id = UUID()
    let request: CloudRequest
    let reply: CheckedContinuation<Bool, Never>
}

/// One prompt, and what came of it so far.
struct Turn: Identifiable {
    let id: Int
    let prompt: String
    var shown = ""
    var answer: HybridAnswer?
    var failure: String?
    /// Memory left once it was answered.
    var megabytes: Int?
}

/// All that the screens show, and the session behind them.
@MainActor @Observable
final class AppModel {
    var prompt = "12 30 -> 42"
    var address = ""
    private(set) var bundles: [URL] = []
    private(set) var bundle: EdgeBundle?
    private(set) var status = "Looking for a bundle.".localized
    private(set) var turns: [Turn] = []
    private(set) var isBusy = false
    private(set) var progress: Double?
    private(set) var budget = CloudBudget.usual
    private(set) var consent: ConsentRequest?
    private(set) var cases: [CaseReport] = []
    private(set) var report: URL?
    let settings = DemoSettings()
    private let network = Reachability()
    private let gate = PauseGate()
    private var session: HybridSession?
    private var screen: AsyncStream<ScreenEvent>.Continuation?
    private var running: Task<Void, any Error>?
    private nonisolated static let log = HandOffLog(
        URL.applicationSupportDirectory.appending(path: "hand-offs.jsonl"))

    /// Which bundles were hashed already.
    private nonisolated static let memory = CheckMemory(
        URL.cachesDirectory.appending(path: "checked-bundles.json"))

    /// Opens the bundle last chosen, or the first there is; says how to get one if there is none.
    func openFirstBundle() async {
        watch()
        bundles = ModelLoader.folders()
        guard let first = bundles.first(where: { $0.lastPathComponent == settings.bundle }) ?? bundles.first else {
            status = "no bundle: none found. Download one, or run edgekit demo ios BUNDLE.".localized
            return
        }
        if session == nil { await open(first) }
    }

    /// Checks and loads the bundle in `folder`.
    func open(_ folder: URL) async {
        isBusy = true
        defer { isBusy = false }
        status = "Checking".localized + " \(folder.lastPathComponent)"
        (session, bundle, cases, report) = (nil, nil, [], nil)
        do {
            let opened = try await Task.detached { try EdgeBundle.open(folder, memory: Self.memory) }.value
            bundle = opened
            settings.bundle = folder.lastPathComponent
            try await load(opened)
        } catch {
            status = line(for: error)
        }
    }

    /// The model of `bundle`, after what it needs was compared with what there is.
    private func load(_ bundle: EdgeBundle) async throws {
        let need = MemoryNeed(bundle.manifest)
        let name = bundle.folder.lastPathComponent
        if let free = FreeMemory.bytes {
            status = "Loading".localized + " \(name): " + need.sentence(free)
            try need.check(free)
        }
        session = HybridSession(
            bundle: bundle, model: try await ModelLoader.open(bundle), isOnline: { [network] in network.isOnline },
            mayLeave: { [weak self] request in await self?.ask(consentFor: request) ?? false }, gate: gate)
        status = "\(name): \(bundle.manifest.target), \(bundle.manifest.precision)"
        await apply(saying: nil)
    }

    /// Takes over changed settings. A bad address leaves the device as it is, without a cloud.
    func apply(saying done: String? = "Settings taken over.".localized) async {
        budget = settings.budget()
        let rules = HandOffRules(consent: settings.consent, log: Self.log.append)
        do {
            await session?.use(cloud: nil, budget: budget, rules: rules)
            let cloud = try settings.cloud()
            await session?.use(cloud: cloud, budget: budget, rules: rules)
            if let done { status = done }
        } catch {
            status = line(for: error)
        }
    }

    /// Answers the prompt on the screen, by the settings as they are now.
    func ask() async {
        guard let bundle, !isBusy, !prompt.isEmpty else { return }
        isBusy = true
        defer { isBusy = false }
        turns.append(Turn(id: turns.count, prompt: prompt))
        let (events, screen) = AsyncStream.makeStream(of: ScreenEvent.self)
        let reader = Task { for await event in events { show(event) } }
        self.screen = screen
        do {
            let running = Task { [prompt] in
                if session == nil { try await load(bundle) }
                await apply(saying: nil)
                guard let session else { return }
                let answer = try await session.ask(prompt, Screen(events: screen))
                screen.yield(.answered(answer))
            }
            self.running = running
            try await running.value
        } catch {
            screen.yield(.failed(line(for: error)))
        }
        screen.finish()
        await reader.value
        reply(false)  // a question that was still on its way
        budget = await session?.budget ?? budget
        settings.history = budget.history
    }

    /// Fetches the bundle at the address on the screen, going on where the last try stopped, and opens it.
    func download() async {
        guard !isBusy else { return }
        isBusy = true
        var fetched: URL?
        let (events, screen) = AsyncStream.makeStream(of: Double.self)
        let reader = Task { for await part in events { progress = part } }
        do {
            let folder = ModelLoader.folder(for: address)
            let download = try BundleDownload(address: address, folder: folder)
            let running = Task {
                _ = try await download.run { @Sendable done, whole in
                    screen.yield(Double(done) / Double(max(1, whole)))
                }
            }
            self.running = running
            try await running.value
            fetched = folder
        } catch {
            status = line(for: error)
        }
        screen.finish()
        await reader.value
        (progress, isBusy) = (nil, false)
        bundles = ModelLoader.folders()
        if let fetched { await open(fetched) }
    }

    /// Replays the bundle's recorded cases and writes the report to be shared.
    func runSelfTest() async {
        guard let bundle, !isBusy else { return }
        isBusy = true
        defer { isBusy = false }
        (cases, report) = ([], nil)
        let (events, screen) = AsyncStream.makeStream(of: CaseReport.self)
        let reader = Task { for await item in events { cases.append(item) } }
        do {
            let running = Task {
                if session == nil { try await load(bundle) }
                let made = try await session?.selfTest(
                    device: .current(), app: .current(), onCase: { screen.yield($0) })
                guard let made else { return }
                let url = URL.temporaryDirectory.appending(path: "device-report.json")
                try Data(made.json().utf8).write(to: url)
                report = url
            }
            self.running = running
            try await running.value
        } catch {
            status = line(for: error)
        }
        screen.finish()
        await reader.value
    }

    /// Ends what is being done, at its next step.
    func stop() {
        running?.cancel()
        reply(false)
    }

    /// The user's word on the request shown, for this time or for this server from now on.
    func reply(_ mayLeave: Bool, always: Bool = false) {
        if always {
            settings.consent = .always
            let rules = HandOffRules(consent: .always, log: Self.log.append)
            Task { [session] in await session?.use(rules: rules) }
        }
        consent?.reply.resume(returning: mayLeave)
        consent = nil
    }

    /// Cancelled once nobody waits for the answer any more: then the question goes.
    private func ask(consentFor request: CloudRequest) async -> Bool {
        guard let screen else { return false }
        return await withTaskCancellationHandler {
            // After the text that is still on its way: the user sees the whole attempt before being asked.
            await withCheckedContinuation { reply in
                screen.yield(.consent(ConsentRequest(request: request, reply: reply)))
            }
        } onCancel: {
            Task { @MainActor in self.reply(false) }
        }
    }

    private func show(_ event: ScreenEvent) {
        guard let last = turns.indices.last else { return }
        switch event {
        case .text(let text): turns[last].shown += text
        case .restart: turns[last].shown = ""
        case .consent(let request): consent = request
        case .failed(let line): turns[last].failure = line
        case .answered(let answer):
            turns[last].megabytes = FreeMemory.bytes.map { $0 / 1_000_000 }
            turns[last].answer = answer
        }
    }

    /// Off the screen a model waits between two tokens, for Metal refuses it there. Where memory is short an idle one
    /// goes, and comes back with the next prompt.
    private func watch() {
        on(UIApplication.willResignActiveNotification) { $0.gate.close() }
        on(UIApplication.didBecomeActiveNotification) { $0.gate.open() }
        on(UIApplication.didReceiveMemoryWarningNotification) { $0.session = $0.isBusy ? $0.session : nil }
    }

    private func on(_ name: Notification.Name, _ react: @escaping @MainActor @Sendable (AppModel) -> Void) {
        _ = NotificationCenter.default.addObserver(forName: name, object: nil, queue: .main) { [weak self] _ in
            MainActor.assumeIsolated { if let self { react(self) } }
        }
    }
}

extension MemoryNeed {
    /// What it needs beside what there is, in the user's language.
    fileprivate func sentence(_ freeBytes: Int) -> String {
        let bytes = [artifactBytes + cacheBytes, artifactBytes, cacheBytes, freeBytes]
        let mb = bytes.map { $0 / 1_000_000 }
        let words = "needs %ld MB (%ld of weights, %ld for %ld tokens), %ld MB are free".localized
        return String(format: words, mb[0], mb[1], mb[2], contextLength, mb[3])
    }
}

private enum ScreenEvent: Sendable {
    case text(String)
    case restart
    case consent(ConsentRequest)
    case answered(HybridAnswer)
    case failed(String)
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
