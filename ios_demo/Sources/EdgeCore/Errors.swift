import Foundation

/// An error whose message is one line: what failed, why, what to do.
public struct EdgeError: Error, LocalizedError, CustomStringConvertible, Sendable, Equatable {
    public let message: String

    public init(_ message: String) {
        self.message = message
    }

    public var description: String { message }
    public var errorDescription: String? { message }
}

/// The one line to show for any error.
public func line(for error: any Error) -> String {
    (error as? EdgeError)?.message ?? (error as NSError).localizedDescription
}
