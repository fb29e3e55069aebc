import Foundation

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

/// Who answers when the policy calls.
public protocol Cloud: Sendable {
    var name: String { get }

    /// The answer to `prompt`, without delimiters. Throws ``EdgeError`` if it cannot be had.
    func answer(_ prompt: String) async throws -> String
}

/// What an HTTP server replied.
public struct HttpReply: Sendable {
    public let status: Int
    public let body: Data

    public init(status: Int, body: Data) {
        self.status = status
        self.body = body
    }
}

/// Sends one POST request. Throws if no reply comes.
public protocol Transport: Sendable {
    func post(_ url: URL, headers: [String: String], body: Data) async throws -> HttpReply
}

/// A cloud behind any OpenAI-compatible chat server at `baseUrl`, which ends in the API's version (".../v1").
///
/// One request a prompt, never repeated. The key goes into the request's header and nowhere else: errors
/// never show it, and an address that would carry it unencrypted over a network is refused.
public struct CloudClient: Cloud {
    public static let instruction = "Solve the task. End with your final answer alone between <answer> and </answer>."
    private static let open = "<answer>".text
    private static let close = "</answer>".text
    /// Hosts that plain http may go to: this machine.
    private static let thisMachine: Set<String> = ["localhost", "127.0.0.1"]

    private let model: String
    private let baseUrl: String
    private let endpoint: URL
    private let key: String
    private let transport: any Transport

    public var name: String { "openai:\(model)" }

    /// Throws ``EdgeError`` for an address that is not https (http only on this machine) or an empty model name.
    public init(model: String, baseUrl: String, key: String, transport: any Transport = HttpTransport()) throws {
        let trimmed = String(baseUrl.reversed().drop { $0 == "/" }.reversed())
        let endpoint = URL(string: trimmed + "/chat/completions")
        let host = endpoint?.host ?? ""
        let isPrivate = endpoint?.scheme == "https" || (endpoint?.scheme == "http" && Self.thisMachine.contains(host))
        guard let endpoint, !host.isEmpty, isPrivate, !model.isEmpty else {
            throw EdgeError("bad cloud: \(model) at \(baseUrl). It needs a model and an https address. Change it.")
        }
        self.model = model
        self.baseUrl = baseUrl
        self.endpoint = endpoint
        self.key = key
        self.transport = transport
    }

    public func answer(_ prompt: String) async throws -> String {
        let request = Json.object([
            "model": .string(model),
            "messages": .array([
                .object(["role": .string("system"), "content": .string(Self.instruction)]),
                .object(["role": .string("user"), "content": .string(prompt)]),
            ]),
        ])
        let headers = ["Content-Type": "application/json", "Authorization": "Bearer \(key)"]
        let reply: HttpReply
        do {
            reply = try await transport.post(endpoint, headers: headers, body: Data(request.write().utf8))
        } catch let error as URLError where error.code == .timedOut {
            throw failure("it did not answer in time")
        } catch {
            throw failure("it cannot be reached")
        }
        if !(200...299).contains(reply.status) { throw failure("it answered with status \(reply.status)") }
        guard let text = try content(reply.body), !text.text.stripped().isEmpty else {
            throw failure("its reply holds no text")
        }
        return Self.finalAnswer(text)
    }

    private func content(_ body: Data) throws -> String? {
        do {
            let choices = try JsonFields(Json.parse(body)).list("choices")
            let choice = try JsonFields(choices.first ?? .null, "choices.0")
            return try choice.fields("message").textOrNil("content")
        } catch {
            throw failure("its reply cannot be read")
        }
    }

    private func failure(_ why: String) -> EdgeError {
        let line = "cloud failed: \(model) at \(baseUrl). \(why). Check the address, the model's name and the key."
        return EdgeError(key.isEmpty ? line : line.replacingOccurrences(of: key, with: "***"))
    }

    /// What stands between the last `<answer>` and its `</answer>`; without them, all of `text`.
    static func finalAnswer(_ text: String) -> String {
        let all = text.text
        guard let opened = all.lastIndex(of: open) else { return String(all.stripped()) }
        let rest = Array(all[(opened + open.count)...])
        return String(Array(rest[..<(rest.firstIndex(of: close) ?? rest.count)]).stripped())
    }
}

/// ``Transport`` over the platform's own HTTP client. Redirects are not followed: the key stays with its host.
public final class HttpTransport: NSObject, Transport, URLSessionTaskDelegate {
    private static let maxReply = 1 << 20
    private let timeout: TimeInterval

    public init(timeout: TimeInterval = 30) {
        self.timeout = timeout
    }

    public func post(_ url: URL, headers: [String: String], body: Data) async throws -> HttpReply {
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForRequest = timeout
        configuration.timeoutIntervalForResource = timeout
        let session = URLSession(configuration: configuration, delegate: self, delegateQueue: nil)
        defer { session.finishTasksAndInvalidate() }
        var request = URLRequest(url: url)
        request.httpMethod = "POST"
        request.httpBody = body
        for (name, value) in headers {
            request.setValue(value, forHTTPHeaderField: name)
        }
        let (data, response) = try await session.data(for: request)
        guard let status = (response as? HTTPURLResponse)?.statusCode, data.count <= Self.maxReply else {
            throw URLError(.badServerResponse)
        }
        return HttpReply(status: status, body: data)
    }

    public func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest request: URLRequest, completionHandler: @escaping @Sendable (URLRequest?) -> Void
    ) {
        completionHandler(nil)
    }
}
