import Foundation

/// Stands in for UIKit's: the host, by its own name, so that no report of it passes for a phone's.
@MainActor
public final class UIDevice {
    public static let current = UIDevice()
    public let systemName = "no phone:"
    public let systemVersion = ProcessInfo.processInfo.operatingSystemVersionString
}
