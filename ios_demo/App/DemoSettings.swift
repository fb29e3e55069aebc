import EdgeCore
import Foundation
import Network
import Observation
import UIKit

#if canImport(os)
    import os
#endif

/// What the user chose, kept across starts of the app; the key in the Keychain, in no log.
@MainActor @Observable
final class DemoSettings {
    var cloudModel = UserDefaults.standard.string(forKey: "cloudModel") ?? "" {
        didSet { UserDefaults.standard.set(cloudModel, forKey: "cloudModel") }
    }
    var cloudUrl = UserDefaults.standard.string(forKey: "cloudUrl") ?? "https://" {
        didSet { UserDefaults.standard.set(cloudUrl, forKey: "cloudUrl") }
    }
    var key = KeyVault.read() {
        didSet { KeyVault.write(key) }
    }
    /// Whether prompts may leave for each server, by its address.
    private var consents = UserDefaults.standard.dictionary(forKey: "consents") as? [String: String] ?? [:] {
        didSet { UserDefaults.standard.set(consents, forKey: "consents") }
    }
    /// The same for the server that is named now.
    var consent: Consent {
        get { consents[cloudUrl].flatMap(Consent.init) ?? .ask }
        set { consents[cloudUrl] = newValue.rawValue }
    }
    /// The name of the bundle last chosen.
    var bundle = UserDefaults.standard.string(forKey: "bundle") ?? "" {
        didSet { UserDefaults.standard.set(bundle, forKey: "bundle") }
    }
    var share = UserDefaults.standard.object(forKey: "share") as? Double ?? 0.3 {
        didSet { UserDefaults.standard.set(share, forKey: "share") }
    }
    /// For each of the last prompts whether it left the phone.
    var history = UserDefaults.standard.array(forKey: "history") as? [Bool] ?? [] {
        didSet { UserDefaults.standard.set(history, forKey: "history") }
    }

    /// The budget as it was kept; one that cannot be is the usual one.
    func budget() -> CloudBudget {
        (try? CloudBudget(share: share, history: history)) ?? .usual
    }

    /// The cloud, or nil if none is named.
    func cloud() throws -> (any Cloud)? {
        cloudModel.isEmpty ? nil : try CloudClient(model: cloudModel, baseUrl: cloudUrl, key: key)
    }
}

/// Whether the phone has a network just now.
final class Reachability: @unchecked Sendable {
    private let monitor = NWPathMonitor()

    init() {
        monitor.start(queue: DispatchQueue(label: "network"))
    }

    var isOnline: Bool { monitor.currentPath.status == .satisfied }
}

/// What this app may still take before the system ends it; nil where the system does not say.
enum FreeMemory {
    static var bytes: Int? {
        #if os(iOS)
            os_proc_available_memory()
        #else
            nil
        #endif
    }
}

extension DeviceFacts {
    /// This phone: its model identifier ("iPhone16,2"), not its name.
    @MainActor static func current() -> DeviceFacts {
        var system = utsname()
        uname(&system)
        let model = withUnsafeBytes(of: &system.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let device = UIDevice.current
        return DeviceFacts(model: model, os: "\(device.systemName) \(device.systemVersion)")
    }
}

extension AppFacts {
    static func current() -> AppFacts {
        let version = Bundle.main.object(forInfoDictionaryKey: "CFBundleShortVersionString") as? String
        return AppFacts(name: "ios_demo", version: version ?? "unknown")
    }
}
