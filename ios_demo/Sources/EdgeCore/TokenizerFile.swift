import Foundation

/// A tokenizer.json, read once and in order: the vocabulary and the merges as tables, all else as fields.
///
/// It takes time and memory in proportion to the file. What edgekit has no bytes for, or does not know, is refused,
/// never approximated.
public struct TokenizerFile: Sendable {
    private static let ids = 0..<(1 << 24)
    private static let inside = ["normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"]
    private static let sentencePieceDecoders: Set<String> = ["ByteFallback", "Fuse", "Metaspace", "Replace", "Strip"]

    private let fields: JsonFields
    /// The model's settings: its fields but for the vocabulary and the merges.
    let model: JsonFields
    let vocabulary: TokenTable
    let merges: MergeTable
    /// Of an id given twice the last counts.
    let addedTokens: [AddedToken]
    /// Byte-level BPE, else SentencePiece BPE with byte fallback.
    let isByteLevel: Bool

    /// Reads the file at `url`. Throws ``EdgeError`` naming what is wrong, or not known here.
    public init(_ url: URL) throws {
        try self.init(FileLimits.read(url, upTo: FileLimits.tokenizer))
    }

    /// The same from the file's `data`.
    public init(_ data: Data) throws {
        var vocabulary = TokenTable()
        var merges = MergeList()
        let value = try JsonReader.read(data) { reader in
            guard try reader.isObject() else { return try reader.value() }
            return .object(
                try reader.tree { name, reader in
                    let isModel = try name == "model" && reader.isObject()
                    return try isModel ? Self.model(&reader, &vocabulary, &merges) : reader.value()
                })
        }
        fields = try JsonFields(value)
        try fields.onlyKnown(
            "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
            "decoder", "model")
        model = try fields.fields("model")
        let type = try model.textOrNil("type") ?? "BPE"
        if type != "BPE" { throw unsupported("model.type: \(type)") }
        _ = try model.list("merges")
        _ = try model.fields("vocab")
        self.vocabulary = vocabulary
        self.merges = try merges.resolve(vocabulary)
        let added = try fields.has("added_tokens") ? fields.list("added_tokens") : []
        var byId: [Int: AddedToken] = [:]
        var order: [Int] = []
        for (index, value) in added.enumerated() {
            let token = try AddedToken(value, index)
            if byId.updateValue(token, forKey: token.id) == nil { order.append(token.id) }
        }
        addedTokens = order.compactMap { byId[$0] }
        isByteLevel = try Self.steps(fields, "pre_tokenizer").contains { try $0.text("type") == "ByteLevel" }
        try check()
    }

    /// Refuses ids that a model of `vocabSize` tokens does not have.
    func fits(_ vocabSize: Int) throws {
        let largest = max(vocabulary.largestId, addedTokens.map(\.id).max() ?? -1)
        if largest >= vocabSize { throw EdgeError("token \(largest), but the model has \(vocabSize)", .badField) }
    }

    /// The steps of the normalizer, pre-tokenizer or decoder, sequences opened.
    func steps(_ name: String) throws -> [JsonFields] {
        try Self.steps(fields, name)
    }

    private static func steps(_ fields: JsonFields, _ name: String) throws -> [JsonFields] {
        let value = fields.members[name] ?? .null
        return value.isNull ? [] : try open(value, name)
    }

    private static func open(_ value: Json, _ name: String) throws -> [JsonFields] {
        let step = try JsonFields(value, name)
        if try step.text("type") != "Sequence" { return [step] }
        return try step.list(inside[name] ?? "").flatMap { try open($0, name) }
    }

    private func check() throws {
        if try model.numberOrNil("dropout") ?? 0 != 0 { throw unsupported("model.dropout: it is random") }
        for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
            let affix = try model.textOrNil(name) ?? ""
            if !affix.isEmpty { throw unsupported("model.\(name)") }
        }
        let fallsBack = try model.flagOrNil("byte_fallback") ?? false
        let hasBytes = (UInt8.min...UInt8.max).allSatisfy { vocabulary.find(byteToken($0)) != nil }
        if !isByteLevel, !(fallsBack && hasBytes) { throw unsupported("BPE without bytes for what it does not know") }
        let decoders = isByteLevel ? ["ByteLevel"] : Self.sentencePieceDecoders
        for step in try steps("decoder") {
            let type = try step.text("type")
            if !decoders.contains(type) { throw unsupported("decoder.type: \(type)") }
            if try type == "Replace" && !step.fields("pattern").has("String") { throw unsupported("decoder.pattern") }
        }
    }

    /// The model's fields, in which an empty object and list stand for the vocabulary and the merges.
    private static func model(
        _ reader: inout JsonReader, _ vocabulary: inout TokenTable, _ merges: inout MergeList
    ) throws -> Json {
        .object(
            try reader.tree { name, reader in
                if try name == "vocab" && reader.isObject() {
                    try readVocabulary(&reader, &vocabulary)
                    return .object([:])
                }
                if try name == "merges" && reader.isList() {
                    try merges.read(&reader)
                    return .array([])
                }
                return try reader.value()
            })
    }

    private static func readVocabulary(_ reader: inout JsonReader, _ vocabulary: inout TokenTable) throws {
        var seen: Set<Int> = []
        try reader.members { text, reader in
            guard let id = try reader.value().int, ids.contains(id) else {
                throw EdgeError("model.vocab: an id that is none", .badField)
            }
            if !vocabulary.add(text, id) { throw EdgeError("model.vocab: a key twice", .notJson) }
            if !seen.insert(id).inserted { throw EdgeError("model.vocab: id \(id) twice", .badField) }
        }
    }
}

/// Merges as they stand in the file, each two texts; in older files one text with a space between.
private struct MergeList {
    private var texts = TextList()

    mutating func read(_ reader: inout JsonReader) throws {
        try reader.items { reader in
            let rank = texts.count / 2
            if try reader.isList() {
                try reader.items { texts.append(try $0.string()) }
            } else {
                let parts = try reader.string().split(separator: " ", omittingEmptySubsequences: false)
                for part in parts { texts.append(String(part)) }
            }
            if texts.count != 2 * rank + 2 { throw Self.bad(rank) }
        }
    }

    /// The merges by the ids that `vocabulary` gives the texts.
    func resolve(_ vocabulary: TokenTable) throws -> MergeTable {
        var merges = MergeTable(expected: texts.count / 2)
        for rank in 0..<texts.count / 2 {
            let (first, second) = (texts.range(2 * rank), texts.range(2 * rank + 1))
            guard let left = vocabulary.find(texts.bytes, first), let right = vocabulary.find(texts.bytes, second),
                let both = vocabulary.find(texts.bytes, first.lowerBound..<second.upperBound)
            else { throw Self.bad(rank) }
            merges.add(left, right, rank: rank, id: both)
        }
        return merges
    }

    private static func bad(_ rank: Int) -> EdgeError {
        EdgeError("model.merges.\(rank): not two tokens of the vocabulary that make a third", .badField)
    }
}

/// The text of a byte's own token in SentencePiece vocabularies.
func byteToken(_ byte: UInt8) -> String { "<0x" + byteHex(byte).uppercased() + ">" }

/// The error for what is whole, but not known here.
func unsupported(_ what: String) -> EdgeError {
    EdgeError("\(what). Not known here: byte-level BPE and SentencePiece BPE are", .unsupported)
}
