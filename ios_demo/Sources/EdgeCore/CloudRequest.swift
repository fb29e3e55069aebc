/// One turn of a conversation; `role`: system or user.
public struct Message: Sendable, Equatable {
    public let role: String
    public let content: String

    public init(role: String, content: String) {
        self.role = role
        self.content = content
    }
}

/// Everything that leaves the phone, frozen: shown for consent, logged and sent as it is.
public struct CloudRequest: Sendable, Equatable {
    public let server: String
    public let model: String
    public let messages: [Message]

    public init(server: String, model: String, messages: [Message]) {
        self.server = server
        self.model = model
        self.messages = messages
    }

    /// The user's words in it.
    public var prompt: String { messages.last?.content ?? "" }

    /// What an OpenAI-compatible server is sent.
    var body: [String: Json] {
        let turns = messages.map { Json.object(["role": .string($0.role), "content": .string($0.content)]) }
        return ["model": .string(model), "messages": .array(turns), "stream": .bool(true)]
    }
}

/// Who answers when the policy calls.
public protocol Cloud: Sendable {
    var name: String { get }

    /// The request that would carry `prompt`.
    func request(_ prompt: String) -> CloudRequest

    /// The answer to `request`, without delimiters. `onSent` is called unless nothing can have left the phone; `onText`
    /// gets what the server says as it comes, delimiters included, if it comes in pieces.
    ///
    /// Throws ``EdgeError``: offline, timedOut, unauthorized or cloudFailed.
    func send(_ request: CloudRequest, onSent: () -> Void, onText: (String) throws -> Void) async throws -> String
}

/// Whether prompts may leave for a server.
public enum Consent: String, Sendable, CaseIterable {
    case ask, always, never
}
