import Foundation

/// Stands in for UIKit's: the host, by its own name, so that no report of it passes for a phone's.
@MainActor
public final class UIDevice {
    public static let current = UIDevice()
    public let systemName = "no phone:"
    public let systemVersion = ProcessInfo.processInfo.operatingSystemVersionString
}

/// What the system tells an app; nobody tells it here.
@MainActor
public enum UIApplication {
    public nonisolated static let willResignActiveNotification = Notification.Name("willResignActive")
    public nonisolated static let didBecomeActiveNotification = Notification.Name("didBecomeActive")
    public nonisolated static let didReceiveMemoryWarningNotification = Notification.Name("memoryWarning")
}

@MainActor
public final class UIPasteboard {
    public static let general = UIPasteboard()

    public var string: String?
}
