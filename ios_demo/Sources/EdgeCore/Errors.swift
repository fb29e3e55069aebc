import Foundation

/// What went wrong, in one word that Python, Kotlin and Swift share (tests/conformance/documents.json).
public enum ErrorKind: String, Sendable, CaseIterable {
    case badInput = "bad_input"
    case absent
    case notJson = "not_json"
    case wrongFormat = "wrong_format"
    case newer
    case badField = "bad_field"
    case damaged
    case unsupported
    case tooLong = "too_long"
    case badLogits = "bad_logits"
    case deviceFailed = "device_failed"
    case busy
    case stopped
    case offline
    case timedOut = "timed_out"
    case unauthorized
    case cloudFailed = "cloud_failed"

    /// The kind of any error; what the system throws in this core comes from its files.
    static func of(_ error: any Error) -> ErrorKind {
        (error as? EdgeError)?.kind ?? .absent
    }
}

/// Anything edgekit refuses or cannot do. The message is one line: what failed, why, what to do.
public struct EdgeError: Error, LocalizedError, CustomStringConvertible, Sendable, Equatable {
    public let message: String
    public let kind: ErrorKind

    public init(_ message: String, _ kind: ErrorKind = .badInput) {
        self.message = Self.oneLine(message)
        self.kind = kind
    }

    private static let longest = 2000
    private static let longestWord = 300

    /// `message` without line breaks, and without the middle of what is too long: both come with what it quotes.
    private static func oneLine(_ message: String) -> String {
        let words = message.split(whereSeparator: \.isWhitespace).map { ends(String($0), longestWord) }
        return ends(words.joined(separator: " "), longest)
    }

    private static func ends(_ text: String, _ most: Int) -> String {
        text.count <= most ? text : "\(text.prefix(most / 2))[...]\(text.suffix(most / 2))"
    }

    public var description: String { message }
    public var errorDescription: String? { message }
}

/// The one line to show for any error.
public func line(for error: any Error) -> String {
    (error as? EdgeError)?.message ?? (error as NSError).localizedDescription
}
