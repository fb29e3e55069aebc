import Foundation

/// What each token id spells, as bytes; a token may hold part of a UTF-8 character.
///
/// Special tokens (end of text and the like) spell nothing in the visible text, except those listed in
/// `visible`: delimiters and the marker, whose text the routing decoder must see.
public struct Vocabulary: Sendable {
    private let pieces: [Int: [UInt8]]

    public init(_ pieces: [Int: [UInt8]]) {
        self.pieces = pieces
    }

    public subscript(id: Int) -> [UInt8] {
        pieces[id] ?? []
    }

    /// From a parsed tokenizer.json, as the routing decoder of `spec` needs it.
    public init(tokenizer: JsonFields, spec: RoutingSpec) throws {
        let visible = spec.delimiters
        let words = try tokenizer.fields("model").fields("vocab")
        let steps = ["pre_tokenizer", "decoder"].compactMap { tokenizer.members[$0] }
        let isByteLevel = steps.contains { $0.mentions("ByteLevel") }
        var pieces: [Int: [UInt8]] = [:]
        for piece in words.members.keys {
            let spelled = isByteLevel ? ByteAlphabet.bytes(of: piece) ?? [] : Self.sentencePiece(piece)
            pieces[try words.index(piece)] = spelled
        }
        for token in try AddedToken.readAll(tokenizer) {
            let isHidden = token.isSpecial && !visible.contains { $0.isIdentical(to: token.content) }
            pieces[token.id] = isHidden ? [] : Array(token.content.utf8)
        }
        self.init(pieces)
    }

    private static func sentencePiece(_ piece: String) -> [UInt8] {
        let text = Array(piece.utf8)
        if text.count == 6, piece.hasPrefix("<0x"), piece.hasSuffix(">"),
            let byte = UInt8(piece.dropFirst(3).dropLast(), radix: 16)
        {
            return [byte]
        }
        return Array(piece.replacingOccurrences(of: "\u{2581}", with: " ", options: .literal).utf8)
    }
}

/// The printable stand-in of every byte in byte-level BPE vocabularies (GPT-2's table).
enum ByteAlphabet {
    /// The stand-in of each byte.
    static let scalars: [Unicode.Scalar] = {
        let printable = Set<UInt32>(33...126).union(161...172).union(174...255)
        var next: UInt32 = 256
        return (UInt32(0)...255).map { byte in
            if printable.contains(byte) { return Unicode.Scalar(byte) ?? " " }
            defer { next += 1 }
            return Unicode.Scalar(next) ?? " "
        }
    }()

    private static let bytes: [Unicode.Scalar: UInt8] = Dictionary(
        uniqueKeysWithValues: zip(scalars, UInt8.min...UInt8.max))

    /// The bytes a piece stands for; nil if it holds a character outside the table.
    static func bytes(of piece: String) -> [UInt8]? {
        var out: [UInt8] = []
        for scalar in piece.unicodeScalars {
            guard let byte = bytes[scalar] else { return nil }
            out.append(byte)
        }
        return out
    }
}

extension Json {
    /// Whether `word` occurs in any text or key inside.
    func mentions(_ word: String) -> Bool {
        switch self {
        case .string(let text): text.contains(word)
        case .array(let values): values.contains { $0.mentions(word) }
        case .object(let members): members.contains { $0.key.contains(word) || $0.value.mentions(word) }
        default: false
        }
    }
}
