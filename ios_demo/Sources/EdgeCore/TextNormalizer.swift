import Foundation

/// What is done to text before it is cut into pieces.
struct TextNormalizer: Sendable {
    private enum Step: Sendable {
        case form(Form)
        case prepend(Text)
        case replace(Text, with: Text)
        case strip(left: Bool, right: Bool)
    }

    /// A Unicode normalization form.
    private enum Form: String, Sendable {
        case nfc = "NFC"
        case nfd = "NFD"
        case nfkc = "NFKC"
        case nfkd = "NFKD"
    }

    private let steps: [Step]

    init(_ file: TokenizerFile) throws {
        steps = try file.steps("normalizer").map(Self.step)
    }

    func normalize(_ text: Text) -> Text {
        steps.reduce(text) { Self.apply($1, to: $0) }
    }

    private static func step(_ fields: JsonFields) throws -> Step {
        let type = try fields.text("type")
        switch type {
        case "Prepend": return .prepend(try fields.text("prepend").text)
        case "Replace":
            let pattern = try fields.fields("pattern")
            guard pattern.has("String") else { throw unsupported("normalizer.pattern: not a plain text") }
            return .replace(try pattern.filled("String").text, with: try fields.text("content").text)
        case "Strip": return .strip(left: try fields.flag("strip_left"), right: try fields.flag("strip_right"))
        default:
            guard let form = Form(rawValue: type) else { throw unsupported("normalizer.type: \(type)") }
            return .form(form)
        }
    }

    private static func apply(_ step: Step, to text: Text) -> Text {
        switch step {
        case .form(let form): normalized(String(text), form).text
        case .prepend(let prefix): text.isEmpty ? text : prefix + text
        case .replace(let old, let new): text.replacing(old, by: new)
        case .strip(let left, let right): stripped(text, left, right)
        }
    }

    private static func normalized(_ text: String, _ form: Form) -> String {
        switch form {
        case .nfc: text.precomposedStringWithCanonicalMapping
        case .nfd: text.decomposedStringWithCanonicalMapping
        case .nfkc: text.precomposedStringWithCompatibilityMapping
        case .nfkd: text.decomposedStringWithCompatibilityMapping
        }
    }

    private static func stripped(_ text: Text, _ left: Bool, _ right: Bool) -> Text {
        var kept = text[...]
        if left { kept = kept.drop { $0.properties.isWhitespace } }
        while right, kept.last?.properties.isWhitespace == true { kept.removeLast() }
        return Array(kept)
    }
}
