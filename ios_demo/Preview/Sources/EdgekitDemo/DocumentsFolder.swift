import Foundation

extension URL {
    /// Foundation on Linux lacks it.
    static var documentsDirectory: URL {
        URL(fileURLWithPath: ProcessInfo.processInfo.environment["HOME"] ?? ".").appending(path: "Documents")
    }
}
