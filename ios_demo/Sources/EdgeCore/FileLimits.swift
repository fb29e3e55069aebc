import Foundation

/// What is read of a bundle's files at most, in bytes: how much memory they fill is not for a stranger to say.
enum FileLimits {
    static let document = 4_000_000
    static let tokenizer = 128_000_000
    static let records = 64_000_000

    /// The content of the file at `url`. Throws ``EdgeError`` if it has more than `most` bytes.
    static func read(_ url: URL, upTo most: Int) throws -> Data {
        let data = try Data(contentsOf: url, options: .mappedIfSafe)
        if data.count > most { throw EdgeError("it has \(data.count) bytes, more than \(most)", .damaged) }
        return data
    }
}
