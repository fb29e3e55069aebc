import Foundation

/// How an answer stands in the text: between `open` and `close`.
public struct AnswerFormat: Sendable, Equatable {
    public var open = "<answer>"
    public var close = "</answer>"

    public init() {}
}

/// The call-for-cloud marker: its text, and the token id sequences that count as emitting it.
public struct Marker: Sendable, Equatable {
    public var text: String
    public var tokenIds: [[Int]]
}

/// On what the marker bias was fitted: `n` problems of a task's split; `reachedFraction` of them, in `interval`, call at
/// `markerBias`.
public struct CalibrationFacts: Sendable, Equatable {
    public let task: String
    public let split: String
    public let n: Int
    public let seed: Int
    public let reachedFraction: Double
    public let interval: [Double]
    public let markerBias: Double

    init(_ fields: JsonFields) throws {
        try fields.onlyKnown("task", "split", "n", "seed", "reached_fraction", "interval", "marker_bias")
        task = try fields.text("task")
        split = try fields.text("split")
        n = try fields.count("n")
        seed = try fields.whole("seed", -(1 << 53)...(1 << 53))
        reachedFraction = try fields.number("reached_fraction")
        interval = try fields.list("interval").map { $0.number ?? .nan }
        markerBias = try fields.number("marker_bias")
        if interval.count != 2 || !(interval + [reachedFraction]).allSatisfy({ (0...1).contains($0) }) {
            throw EdgeError("calibration: its shares are none", .badField)
        }
    }
}

/// routing.json: everything a phone needs to decode a policy's text and see its decision.
public struct RoutingSpec: Sendable, Equatable {
    public static let knownVersion = 2
    private static let prompt = "{prompt}"
    /// How often a template may repeat the prompt: what it makes of a long one must not fill the memory.
    private static let mostPrompts = 8
    /// What a policy thinks stands between them.
    static let thoughtOpen = "<think>"
    static let thoughtClose = "</think>"

    public var marker: Marker
    public var answer = AnswerFormat()
    public var stopTokenIds: [Int]
    public var maxNewTokens: Int
    public var promptTemplate: String
    public var promptTrim: PromptTrim
    /// Added to the marker's margin where it is decided whether to call.
    public var markerBias: Double
    public var calibratedCallFraction: Double?
    public var calibration: CalibrationFacts?
    public var onNoAnswer: Route

    /// What the policy continues for the user's `prompt`: the template around it, told apart from it.
    public func parts(_ prompt: String) -> [PromptPart] {
        Self.parts(promptTemplate, promptTrim.trimmed(prompt))
    }

    /// `prompt` in each place of `template` that is for it.
    static func parts(_ template: String, _ prompt: String) -> [PromptPart] {
        var parts: [PromptPart] = []
        var rest = template.text
        while let found = rest.firstIndex(of: Self.prompt.text) {
            parts += [PromptPart(String(rest[..<found]), isUser: false), PromptPart(prompt, isUser: true)]
            rest = Array(rest[(found + Self.prompt.text.count)...])
        }
        return parts + [PromptPart(String(rest), isUser: false)]
    }

    /// Whether the prompt template leaves a thought open, so that a response begins within it.
    var beginsInThought: Bool {
        let template = promptTemplate.text
        guard let prompt = template.lastIndex(of: Self.prompt.text) else { return false }
        let before = Array(template[(prompt + Self.prompt.text.count)...])
        return (before.lastIndex(of: Self.thoughtOpen.text) ?? -1) > (before.lastIndex(of: Self.thoughtClose.text) ?? -1)
    }

    /// The texts that the decoder must see, special tokens or not: the marker, an answer's and a thought's ends.
    var delimiters: [String] { [marker.text, answer.open, answer.close, Self.thoughtOpen, Self.thoughtClose] }

    /// Reads routing.json. Throws ``EdgeError`` naming the fault.
    public static func load(_ url: URL) throws -> RoutingSpec {
        do {
            return try RoutingSpec(JsonFields(Json.read(url)))
        } catch {
            let advice = ErrorKind.of(error) == .newer ? "Update the app" : "Export the bundle again"
            throw EdgeError("bad routing.json: \(url.path). \(line(for: error)). \(advice).", ErrorKind.of(error))
        }
    }

    /// From parsed JSON. Throws ``EdgeError`` naming the first fault.
    public init(_ fields: JsonFields) throws {
        try fields.refuseNewer(Self.knownVersion)
        try fields.onlyKnown(
            "version", "marker", "answer", "stop_token_ids", "max_new_tokens", "prompt_template", "prompt_trim",
            "marker_bias", "calibrated_call_fraction", "calibration", "on_no_answer")
        if fields.has("version") { _ = try fields.whole("version", 1...Self.knownVersion) }
        let marker = try fields.fields("marker")
        try marker.onlyKnown("text", "token_ids")
        self.marker = Marker(text: try marker.filled("text"), tokenIds: try marker.tokenIdLists("token_ids"))
        if self.marker.tokenIds.isEmpty || self.marker.tokenIds.contains([]) {
            throw EdgeError("marker.token_ids: no sequence, or an empty one", .badField)
        }
        if fields.has("answer") {
            let answer = try fields.fields("answer")
            try answer.onlyKnown("open", "close")
            if answer.has("open") { self.answer.open = try answer.filled("open") }
            if answer.has("close") { self.answer.close = try answer.filled("close") }
        }
        stopTokenIds = try fields.tokenIds("stop_token_ids")
        maxNewTokens = try fields.count("max_new_tokens")
        promptTemplate = fields.has("prompt_template") ? try fields.text("prompt_template") : Self.prompt
        let prompts = Self.parts(promptTemplate, "").filter(\.isUser).count
        if !(1...Self.mostPrompts).contains(prompts) {
            let why = "\(Self.prompt) stands in it \(prompts) times, not 1 to \(Self.mostPrompts)"
            throw EdgeError("prompt_template: \(why)", .badField)
        }
        promptTrim = fields.has("prompt_trim") ? try PromptTrim.named(fields.text("prompt_trim")) : .none
        markerBias = fields.has("marker_bias") ? try fields.number("marker_bias") : 0
        calibratedCallFraction = try fields.numberOrNil("calibrated_call_fraction")
        let isFitted = !(fields.members["calibration"] ?? .null).isNull
        calibration = isFitted ? try CalibrationFacts(fields.fields("calibration")) : nil
        onNoAnswer = fields.has("on_no_answer") ? try Route.named(fields.text("on_no_answer")) : .cloud
    }
}

extension Route {
    /// The route called `name`.
    static func named(_ name: String) throws -> Route {
        guard let route = Route(rawValue: name) else { 
            throw EdgeError("route \(name): neither local nor cloud", .badField)
         }
        return route
    }
}
