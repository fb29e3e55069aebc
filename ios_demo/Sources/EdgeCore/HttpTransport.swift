import Dispatch
import Foundation

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

/// ``Transport`` over the platform's own HTTP client: `timeout` seconds from one piece to the next, `whole` for all of
/// a reply. Redirects are not followed: the key stays with its host.
public struct HttpTransport: Transport {
    private static let maxReply = 1 << 20
    private let timeout: TimeInterval
    private let whole: TimeInterval

    public init(timeout: TimeInterval = 30, whole: TimeInterval = 180) {
        self.timeout = timeout
        self.whole = whole
    }

    public func post(
        _ url: URL, headers: [String: String], body: Data, onLine: (String) throws -> Void
    ) async throws -> HttpReply {
        var request = URLRequest(url: url)
        request.httpMethod = "POST"
        request.httpBody = body
        for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
        var all = Data()
        var begun = 0  // where the line begins that is not yet whole
        let status = try await HttpPieces(request, timeout: timeout, whole: whole, follows: false).forEach {
            status, data in
            all.append(data)
            if all.count > Self.maxReply { throw URLError(.dataLengthExceedsMaximum) }
            guard 200...299 ~= status else { return }
            while let end = all[begun...].firstIndex(of: UInt8(ascii: "\n")) {
                try onLine(Self.line(all[begun..<end]))
                begun = end + 1
            }
        }
        if 200...299 ~= status, begun < all.count { try onLine(Self.line(all[begun...])) }
        return HttpReply(status: status, body: all)
    }

    private static func line(_ bytes: Data) -> String {
        String(decoding: bytes.last == UInt8(ascii: "\r") ? bytes.dropLast() : bytes, as: UTF8.self)
    }
}

/// What a server replies, piece by piece, as it comes; no more lies in memory than a few pieces.
struct HttpPieces {
    private let request: URLRequest
    private let configuration = URLSessionConfiguration.ephemeral
    private let follows: Bool

    /// `follows` redirects, or takes one for the reply.
    init(_ request: URLRequest, timeout: TimeInterval, whole: TimeInterval, follows: Bool) {
        self.request = request
        self.follows = follows
        configuration.timeoutIntervalForRequest = timeout
        configuration.timeoutIntervalForResource = whole
    }

    /// Hands each piece with the reply's status to `onPiece`; returns the status. Throws if no reply comes.
    func forEach(_ onPiece: (Int, Data) throws -> Void) async throws -> Int {
        let (pieces, feed) = AsyncThrowingStream.makeStream(of: Piece.self)
        let feeder = Feeder(feed: feed, follows: follows)
        feed.onTermination = { _ in feeder.end() }
        let session = URLSession(configuration: configuration, delegate: feeder, delegateQueue: nil)
        defer {
            feeder.end()
            session.invalidateAndCancel()
        }
        session.dataTask(with: request).resume()
        var status: Int?
        for try await piece in pieces {
            switch piece {
            case .status(let code): status = code
            case .data(let data):
                feeder.hasTaken()
                try onPiece(status ?? 0, data)
            }
        }
        guard let status else { throw URLError(.badServerResponse) }
        return status
    }
}

private enum Piece: Sendable {
    case status(Int)
    case data(Data)
}

/// Hands on what arrives, in order, and lets the network wait for who reads.
private final class Feeder: NSObject, URLSessionDataDelegate, @unchecked Sendable {
    private let feed: AsyncThrowingStream<Piece, any Error>.Continuation
    private let follows: Bool
    private let room = DispatchSemaphore(value: 16)
    private let lock = NSLock()
    private var hasEnded = false

    init(feed: AsyncThrowingStream<Piece, any Error>.Continuation, follows: Bool) {
        self.feed = feed
        self.follows = follows
    }

    func hasTaken() {
        room.signal()
    }

    /// Nobody reads any more.
    func end() {
        lock.withLock { hasEnded = true }
        room.signal()
    }

    func urlSession(
        _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
        completionHandler: @escaping @Sendable (URLSession.ResponseDisposition) -> Void
    ) {
        if let status = (response as? HTTPURLResponse)?.statusCode { feed.yield(.status(status)) }
        completionHandler(.allow)
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        if !lock.withLock({ hasEnded }) { room.wait() }
        feed.yield(.data(data))
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        if let status = (task.response as? HTTPURLResponse)?.statusCode, error == nil { feed.yield(.status(status)) }
        feed.finish(throwing: error)
    }

    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest request: URLRequest, completionHandler: @escaping @Sendable (URLRequest?) -> Void
    ) {
        completionHandler(follows && request.url?.scheme == "https" ? request : nil)
    }
}
