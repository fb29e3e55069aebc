import Foundation

/// A decision as stored in conformance.jsonl; `markerMargin` is nil if it was not a finite number.
public struct RecordedDecision: Sendable {
    public let tokenIds: [Int]
    public let route: Route
    public let reason: String
    public let text: String
    public let answer: String?
    public let markerMargin: Double?

    init(_ fields: JsonFields) throws {
        try fields.needs("answer", "marker_margin")
        tokenIds = try fields.tokenIds("token_ids")
        route = try Route.named(fields.text("route"))
        reason = try fields.text("reason")
        text = try fields.text("text")
        answer = try fields.textOrNil("answer")
        markerMargin = try fields.numberOrNil("marker_margin")
    }

    /// Whether `decision` is the same: route, reason and answer. Its tokens may differ.
    public func agrees(with decision: Decision) -> Bool {
        let isSameAnswer =
            switch (answer, decision.answer) {
            case (nil, nil): true
            case (let mine?, let other?): mine.isIdentical(to: other)
            default: false
            }
        return route == decision.route && reason == decision.reason && isSameAnswer
    }
}

/// One real prompt with the decisions of the reference and of the quantized reference.
///
/// `markerBias` is the artifact's and its quantized reference's; a replay must use it.
public struct ConformanceCase: Sendable {
    public static let file = "conformance.jsonl"

    public let id: String
    public let prompt: String
    public let promptTokenIds: [Int]
    public let markerBias: Double
    public let reference: RecordedDecision
    public let quantizedReference: RecordedDecision

    init(_ fields: JsonFields) throws {
        id = try fields.text("id")
        prompt = try fields.text("prompt")
        promptTokenIds = try fields.tokenIds("prompt_token_ids")
        markerBias = try fields.number("marker_bias")
        reference = try RecordedDecision(fields.fields("reference"))
        quantizedReference = try RecordedDecision(fields.fields("quantized_reference"))
    }

    /// Reads a file of cases, one JSON object a line, blank lines aside. Throws ``EdgeError`` naming the first bad line.
    public static func readAll(_ url: URL) throws -> [ConformanceCase] {
        guard let data = try? Data(contentsOf: url) else {
            throw EdgeError(
                "unreadable conformance cases: \(url.path). It cannot be read. Export the bundle again.", .absent)
        }
        let lines = data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        return try lines.enumerated().compactMap { number, text in
            do {
                if text.allSatisfy({ [0x20, 0x09, 0x0D].contains($0) }) { return nil }
                return try ConformanceCase(JsonFields(Json.parse(Data(text))))
            } catch {
                let place = "\(url.path):\(number + 1)"
                let why = "\(line(for: error)). Export the bundle again."
                throw EdgeError("bad conformance case: \(place). \(why)", ErrorKind.of(error))
            }
        }
    }
}
