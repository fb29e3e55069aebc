import Foundation

/// What a side made of a prompt: from version 2 on its response with the marker forbidden, from which the decision at
/// any bias follows; version 1 stored the decision at one bias.
public struct RecordedSide: Sendable {
    private let made: Decision
    private let isSolo: Bool

    init(_ fields: JsonFields, version: Int) throws {
        try fields.needs("answer")
        var decision = Decision(
            route: try Route.named(fields.text("route")), reason: try fields.text("reason"),
            text: try fields.text("text"), answer: try fields.textOrNil("answer"),
            tokenIds: try fields.tokenIds("token_ids"))
        isSolo = version > 1
        if isSolo {
            decision.margins = try fields.list("margins").map(Self.margin)
        } else {
            try fields.needs("marker_margin")
            decision.markerMargin = try fields.numberOrNil("marker_margin") ?? -.infinity
        }
        made = decision
    }

    private static func margin(_ pair: Json) throws -> MarkerMargin {
        guard let pair = pair.array, pair.count == 2, let position = pair[0].int, let margin = pair[1].number,
            JsonFields.indices.contains(position)
        else { throw EdgeError("margins: not pairs of a position and a margin", .badField) }
        return MarkerMargin(position: position, margin: margin)
    }

    /// The decision at `markerBias`.
    public func at(_ markerBias: Double, _ routing: RoutingSpec, _ vocabulary: Vocabulary) -> Decision {
        isSolo ? decision(of: made, at: markerBias, routing, vocabulary) : made
    }
}

/// One real prompt with what the reference and the quantized reference made of it.
///
/// `markerBias` is that of the artifact when it was exported. Version 1 is replayed at it, later ones at the bias that
/// the bundle ships with.
public struct ConformanceCase: Sendable {
    public static let file = "conformance.jsonl"
    static let knownVersion = 2

    private let version: Int
    public let id: String
    public let prompt: String
    public let promptTokenIds: [Int]
    public let markerBias: Double
    public let reference: RecordedSide
    public let quantizedReference: RecordedSide

    init(_ fields: JsonFields) throws {
        try fields.refuseNewer(Self.knownVersion)
        version = fields.has("version") ? try fields.whole("version", 1...Self.knownVersion) : 1
        if version > 1 {
            _ = try fields.number("reference_bias")
            for name in ["grading_rule", "reference_answer"] { _ = try fields.textOrNil(name) }  // grading is the host's
        }
        id = try fields.text("id")
        prompt = try fields.text("prompt")
        promptTokenIds = try fields.tokenIds("prompt_token_ids")
        markerBias = try fields.number("marker_bias")
        reference = try RecordedSide(fields.fields("reference"), version: version)
        quantizedReference = try RecordedSide(fields.fields("quantized_reference"), version: version)
    }

    /// The bias at which a replay has to decide.
    public func bias(_ routing: RoutingSpec) -> Double { version > 1 ? routing.markerBias : markerBias }

    /// What the quantized reference decides there.
    public func expected(_ routing: RoutingSpec, _ vocabulary: Vocabulary) -> Decision {
        quantizedReference.at(bias(routing), routing, vocabulary)
    }

    /// Reads a file of cases, one JSON object a line, blank lines aside. Throws ``EdgeError`` naming the first bad line.
    public static func readAll(_ url: URL) throws -> [ConformanceCase] {
        let data: Data
        do {
            data = try FileLimits.read(url, upTo: FileLimits.records)
        } catch {
            let why = (error as? EdgeError)?.message ?? "It cannot be read"
            throw EdgeError(
                "unreadable conformance cases: \(url.path). \(why). Export the bundle again.", ErrorKind.of(error))
        }
        let lines = data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        return try lines.enumerated().compactMap { number, text in
            do {
                if text.allSatisfy({ [0x20, 0x09, 0x0D].contains($0) }) { return nil }
                return try ConformanceCase(JsonFields(Json.parse(Data(text))))
            } catch {
                let place = "\(url.path):\(number + 1)"
                let advice = ErrorKind.of(error) == .newer ? "Update the app" : "Export the bundle again"
                let why = "\(line(for: error)). \(advice)."
                throw EdgeError("bad conformance case: \(place). \(why)", ErrorKind.of(error))
            }
        }
    }
}
