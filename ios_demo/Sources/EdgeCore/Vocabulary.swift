import Foundation

/// What each token id spells, as bytes; a token may hold part of a UTF-8 character.
///
/// Special tokens (end of text and the like) spell nothing in the visible text, except the routing data's
/// delimiters, whose text the routing decoder must see.
public struct Vocabulary: Sendable {
    private let bytes: [UInt8]
    private let ends: [Int32]
    /// Whether each id is a token's.
    private let tokens: [Bool]

    public subscript(id: Int) -> [UInt8] {
        guard ends.indices.contains(id) else { return [] }
        return Array(bytes[(id == 0 ? 0 : Int(ends[id - 1]))..<Int(ends[id])])
    }

    /// `logits` with -infinity for ids that are no token's: a model may have rows for them, nothing chooses one.
    func onlyTokens(_ logits: [Float]) -> [Float] {
        var masked = logits
        for id in masked.indices where id >= tokens.count || !tokens[id] { masked[id] = -.infinity }
        return masked
    }

    /// The table of `pieces`; ids that are not there spell nothing.
    public init(_ pieces: [Int: [UInt8]]) {
        self.init(largestId: pieces.keys.max() ?? -1) { onPiece in
            for (id, piece) in pieces { onPiece(id, piece) }
        }
    }

    /// From a tokenizer.json, as the routing decoder of `spec` needs it.
    public init(_ file: TokenizerFile, spec: RoutingSpec) {
        let visible = spec.delimiters
        let addedIds = Set(file.addedTokens.map(\.id))
        let largest = max(file.vocabulary.largestId, addedIds.max() ?? -1)
        self.init(largestId: largest) { onPiece in
            file.vocabulary.forEach { text, id in
                if addedIds.contains(id) { return }
                onPiece(id, file.isByteLevel ? ByteAlphabet.bytes(of: text) ?? [] : Self.sentencePiece(text))
            }
            for token in file.addedTokens {
                let isHidden = token.isSpecial && !visible.contains { $0.isIdentical(to: token.content) }
                let spelled = file.isByteLevel ? Array(token.content.utf8) : Self.sentencePiece(token.content)
                onPiece(token.id, isHidden ? [] : spelled)
            }
        }
    }

    /// Two passes over the pieces, to count and to fill: no object stays for any of them.
    private init(largestId: Int, _ forEachPiece: ((Int, [UInt8]) -> Void) -> Void) {
        var ends = [Int32](repeating: 0, count: largestId + 1)
        var tokens = [Bool](repeating: false, count: largestId + 1)
        forEachPiece {
            ends[$0] = Int32($1.count)
            tokens[$0] = true
        }
        for id in ends.indices.dropFirst() { ends[id] += ends[id - 1] }
        var bytes = [UInt8](repeating: 0, count: Int(ends.last ?? 0))
        forEachPiece { id, piece in bytes.replaceSubrange(Int(ends[id]) - piece.count..<Int(ends[id]), with: piece) }
        self.bytes = bytes
        self.ends = ends
        self.tokens = tokens
    }

    private static func sentencePiece(_ piece: String) -> [UInt8] {
        let text = Array(piece.utf8)
        let digits = text.dropFirst(3).dropLast()
        if text.count == 6, piece.hasPrefix("<0x"), piece.hasSuffix(">"),
            digits.allSatisfy({ "0123456789ABCDEF".utf8.contains($0) }),
            let byte = UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
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
