import Foundation

/// Text to token ids exactly as Hugging Face's tokenizers does it, for byte-level BPE.
///
/// Added tokens are cut out first, then each stretch between them is normalized, split by the
/// pre-tokenizers and merged. A tokenizer.json that asks for anything else is refused, never approximated.
public struct Tokenizer: Sendable {
    private let added: AddedTokens
    private let normalizers: [Normalizer]
    private let normalizedAdded: AddedTokens
    private let preTokenizers: [PreTokenizer]
    private let model: BytePairModel

    /// From a parsed tokenizer.json. Throws ``EdgeError`` naming what it asks for that is not known here.
    public init(_ fields: JsonFields) throws {
        let tokens = try AddedToken.readAll(fields)
        added = AddedTokens(tokens.filter { !$0.isNormalized })
        normalizedAdded = AddedTokens(tokens.filter(\.isNormalized))
        normalizers = try Normalizer.list(fields.members["normalizer"] ?? .null)
        preTokenizers = try PreTokenizer.list(fields.members["pre_tokenizer"] ?? .null)
        if !preTokenizers.contains(where: \.isByteLevel) {
            throw EdgeError("pre_tokenizer: no ByteLevel, so this is no byte-level BPE")
        }
        model = try BytePairModel(fields.fields("model"))
    }

    /// The ids of `text`, no special token put around them; an added token's text is that token wherever it stands.
    public func encode(_ text: String) -> [Int] {
        added.split(text.text) { raw in
            let normalized = normalizers.reduce(raw) { $1.apply(to: $0) }
            return normalizedAdded.split(normalized) { stretch in
                preTokenizers.reduce([stretch]) { $1.split($0) }.flatMap(model.encode)
            }
        }
    }
}

/// A Unicode normalization form.
enum Normalizer: String, Sendable {
    case nfc = "NFC"
    case nfd = "NFD"
    case nfkc = "NFKC"
    case nfkd = "NFKD"

    /// The steps a tokenizer.json asks for, in order. Throws ``EdgeError`` for one it does not know.
    static func list(_ data: Json) throws -> [Normalizer] {
        if data.isNull { return [] }
        let fields = try JsonFields(data, "normalizer")
        let type = try fields.text("type")
        if type == "Sequence" { return try fields.list("normalizers").flatMap(list) }
        guard let form = Normalizer(rawValue: type) else {
            throw EdgeError("normalizer.type: \(type) is not known here")
        }
        return [form]
    }

    func apply(to text: Text) -> Text {
        let string = String(text)
        return switch self {
        case .nfc: string.precomposedStringWithCanonicalMapping.text
        case .nfd: string.decomposedStringWithCanonicalMapping.text
        case .nfkc: string.precomposedStringWithCompatibilityMapping.text
        case .nfkd: string.decomposedStringWithCompatibilityMapping.text
        }
    }
}

/// One entry of added_tokens.
struct AddedToken: Sendable {
    let id: Int
    let content: String
    let standsAlone: Bool
    let stripsLeft: Bool
    let stripsRight: Bool
    let isNormalized: Bool
    let isSpecial: Bool

    /// All of a parsed tokenizer.json.
    static func readAll(_ tokenizer: JsonFields) throws -> [AddedToken] {
        guard tokenizer.has("added_tokens") else { return [] }
        return try tokenizer.list("added_tokens").enumerated().map { index, entry in
            let token = try JsonFields(entry, "added_tokens.\(index)")
            return AddedToken(
                id: try token.index("id"), content: try token.text("content"),
                standsAlone: try token.flag("single_word"), stripsLeft: try token.flag("lstrip"),
                stripsRight: try token.flag("rstrip"), isNormalized: try token.flag("normalized"),
                isSpecial: try token.flag("special"))
        }
    }
}

/// Finds added tokens in text: leftmost first, the longest of those that begin at one place.
struct AddedTokens: Sendable {
    private let byFirst: [Unicode.Scalar: [(content: Text, token: AddedToken)]]

    init(_ tokens: [AddedToken]) {
        let spelled = tokens.map { (content: $0.content.text, token: $0) }.filter { !$0.content.isEmpty }
        byFirst = Dictionary(grouping: spelled.sorted { $0.content.count > $1.content.count }) { $0.content[0] }
    }

    /// The ids of `text`: added tokens' own, and what `encode` makes of the stretches between them.
    func split(_ text: Text, _ encode: (Text) -> [Int]) -> [Int] {
        var ids: [Int] = []
        var from = 0
        var at = 0
        while at < text.count {
            guard let found = byFirst[text[at]]?.first(where: { text[at...].starts(with: $0.content) }) else {
                at += 1
                continue
            }
            let end = at + found.content.count
            if !found.token.standsAlone || Self.standsAlone(text, at, end) {
                var begin = at
                while found.token.stripsLeft, begin > from, text[begin - 1].properties.isWhitespace { begin -= 1 }
                if begin > from { ids += encode(Array(text[from..<begin])) }
                ids.append(found.token.id)
                from = end
                while found.token.stripsRight, from < text.count, text[from].properties.isWhitespace { from += 1 }
            }
            at = max(end, from)
        }
        if from < text.count { ids += encode(Array(text[from...])) }
        return ids
    }

    private static func standsAlone(_ text: Text, _ begin: Int, _ end: Int) -> Bool {
        let followsWord = begin > 0 && text[begin - 1].isWord
        return !followsWord && !(end < text.count && text[end].isWord)
    }
}
