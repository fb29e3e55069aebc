import Foundation

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

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
    /// `onLine` gets each line of a good reply as it comes.
    func post(
        _ url: URL, headers: [String: String], body: Data, onLine: (String) throws -> Void
    ) async throws -> HttpReply
}

/// A cloud behind any OpenAI-compatible chat server at `baseUrl`, which ends in the API's version (".../v1").
///
/// One request a prompt, never repeated. The key goes into the request's header and nowhere else: errors
/// never show it, and an address that would carry it unencrypted over a network is refused.
public struct CloudClient: Cloud {
    public static let instruction = "Solve the task. End with your final answer alone between <answer> and </answer>."
    private static let event = "data:"
    private static let done = "[DONE]"
    private static let open = "<answer>".text
    private static let close = "</answer>".text
    /// Hosts that plain http may go to: this machine.
    private static let thisMachine: Set<String> = ["localhost", "127.0.0.1"]

    private static let networkLogin = 511
    /// Failures after which nothing can have left the phone.
    private static let neverConnected: Set<URLError.Code> = [
        .cannotFindHost, .cannotConnectToHost, .dnsLookupFailed, .notConnectedToInternet, .dataNotAllowed,
        .internationalRoamingOff, .secureConnectionFailed, .serverCertificateUntrusted, .serverCertificateHasBadDate,
        .serverCertificateHasUnknownRoot, .serverCertificateNotYetValid,
    ]

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
        guard let endpoint, Self.isPrivate(endpoint), !model.isEmpty else {
            throw EdgeError("bad cloud: \(model) at \(baseUrl). It needs a model and an https address. Change it.")
        }
        if !key.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) {
            throw EdgeError("bad key: of \(key.count) characters. Not all are plain ASCII. Copy it again.")
        }
        self.model = model
        self.baseUrl = trimmed
        self.endpoint = endpoint
        self.key = key
        self.transport = transport
    }

    /// Whether nobody on the way reads what goes to `url`.
    static func isPrivate(_ url: URL) -> Bool {
        guard let host = url.host, !host.isEmpty else { return false }
        return url.scheme == "https" || (url.scheme == "http" && thisMachine.contains(host))
    }

    public func request(_ prompt: String) -> CloudRequest {
        let messages = [Message(role: "system", content: Self.instruction), Message(role: "user", content: prompt)]
        return CloudRequest(server: baseUrl, model: model, messages: messages)
    }

    public func send(
        _ request: CloudRequest, onSent: () -> Void, onText: (String) throws -> Void
    ) async throws -> String {
        let headers = ["Content-Type": "application/json", "Authorization": "Bearer \(key)"]
        var streamed: String?
        let reply: HttpReply
        do {
            let body = Data(Json.object(request.body).write().utf8)
            reply = try await transport.post(endpoint, headers: headers, body: body) { line in
                guard line.hasPrefix(Self.event) else { return }
                let added = try piece(String(line.dropFirst(Self.event.count).drop { $0 == " " }))
                streamed = (streamed ?? "") + added
                if !added.isEmpty { try onText(added) }
            }
        } catch let error as EdgeError {
            onSent()
            throw error
        } catch {
            let code = (error as? URLError)?.code
            if !Self.neverConnected.contains(code ?? .unknown) { onSent() }
            if code == .timedOut { throw failure("It did not answer in time. Ask again", .timedOut) }
            throw failure("It cannot be reached. Check the network and the address", .offline)
        }
        onSent()
        switch reply.status {
        case 200...299: break
        case 401, 403: throw failure("It refuses the key (status \(reply.status)). Check it", .unauthorized)
        case 300...399, Self.networkLogin:
            let why = "Something else answered (status \(reply.status)). Sign in to the network, or check the address"
            throw failure(why, .offline)
        default: throw failure("It answered with status \(reply.status). Ask again later")
        }
        guard let text = try streamed ?? content(reply.body), !text.text.stripped().isEmpty else {
            throw failure("Its reply holds no text. Check the model's name")
        }
        return Self.finalAnswer(text)
    }

    /// What one event of a stream adds; the last one, [DONE], and such as only count tokens add nothing.
    private func piece(_ event: String) throws -> String {
        do {
            let choices = event == Self.done ? [] : try JsonFields(Json.parse(Data(event.utf8))).list("choices")
            guard let first = choices.first else { return "" }
            return try JsonFields(first, "choices.0").fields("delta").textOrNil("content") ?? ""
        } catch {
            throw failure("Its reply cannot be read. Check the address")
        }
    }

    private func content(_ body: Data) throws -> String? {
        do {
            let choices = try JsonFields(Json.parse(body)).list("choices")
            let choice = try JsonFields(choices.first ?? .null, "choices.0")
            return try choice.fields("message").textOrNil("content")
        } catch {
            throw failure("Its reply cannot be read. Check the address")
        }
    }

    private func failure(_ why: String, _ kind: ErrorKind = .cloudFailed) -> EdgeError {
        let line = "cloud failed: \(model) at \(baseUrl). \(why)."
        return EdgeError(key.isEmpty ? line : line.replacingOccurrences(of: key, with: "***"), kind)
    }

    /// What stands between the last `<answer>` and its `</answer>`; without them, all of `text`.
    static func finalAnswer(_ text: String) -> String {
        let all = text.text
        guard let opened = all.lastIndex(of: open) else { return String(all.stripped()) }
        let rest = Array(all[(opened + open.count)...])
        return String(Array(rest[..<(rest.firstIndex(of: close) ?? rest.count)]).stripped())
    }
}

