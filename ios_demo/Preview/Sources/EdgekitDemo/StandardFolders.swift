import Foundation

/// Foundation on Linux lacks these.
extension URL {
    static var documentsDirectory: URL { home.appending(path: "Documents") }
    static var cachesDirectory: URL { home.appending(path: ".cache") }
    static var applicationSupportDirectory: URL { home.appending(path: ".local") }

    private static var home: URL {
        URL(fileURLWithPath: ProcessInfo.processInfo.environment["HOME"] ?? ".")
    }
}
