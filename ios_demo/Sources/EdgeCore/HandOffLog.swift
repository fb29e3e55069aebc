import Foundation

/// What left the phone, word for word, one JSON object a line; `file` lies in the app's own storage.
public struct HandOffLog: Sendable {
    private static let mostBytes = 1 << 20
    private let file: URL

    public init(_ file: URL) {
        self.file = file
    }

    /// Keeps `request`, which is about to be sent.
    public func append(_ request: CloudRequest) throws {
        let facts: [String: Json] = [
            "at_ms": .number((Date().timeIntervalSince1970 * 1000).rounded()), "server": .string(request.server),
        ]
        let text = Json.object(request.body.merging(facts) { $1 }).write()
        let size = try? FileManager.default.attributesOfItem(atPath: file.path)[.size] as? NSNumber
        if let size, size.intValue > Self.mostBytes {
            let old = file.appendingPathExtension("old")
            try? FileManager.default.removeItem(at: old)
            try FileManager.default.moveItem(at: file, to: old)
        }
        if !FileManager.default.fileExists(atPath: file.path) {
            let folder = file.deletingLastPathComponent()
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try Data().write(to: file)
        }
        let handle = try FileHandle(forWritingTo: file)
        defer { try? handle.close() }
        try handle.seekToEnd()
        try handle.write(contentsOf: Data((text + "\n").utf8))
    }
}
