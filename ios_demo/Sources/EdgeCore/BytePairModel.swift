/// Byte-pair encoding of one piece: the merge learned earliest is done first, the leftmost of equals first.
struct BytePairModel: Sendable {
    private let vocabulary: [String: Int]
    private let merges: [Pair: Merge]
    private let ignoresMerges: Bool
    private let bytesFallBack: Bool
    private let unknown: Int?
    private let fusesUnknown: Bool

    private struct Pair: Hashable {
        let left: Int
        let right: Int
    }

    private struct Merge {
        let rank: Int
        let id: Int
    }

    /// The model of a parsed tokenizer.json. Throws ``EdgeError`` for one that is no plain BPE.
    init(_ fields: JsonFields) throws {
        let type = try fields.textOrNil("type") ?? "BPE"
        if type != "BPE" { throw EdgeError("model.type: \(type) is not known here") }
        if try fields.numberOrNil("dropout") ?? 0 != 0 { throw EdgeError("model.dropout: it is random") }
        for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
            let affix = try fields.textOrNil(name) ?? ""
            if !affix.isEmpty { throw EdgeError("model.\(name): not known here") }
        }
        let words = try fields.fields("vocab")
        vocabulary = words.members.compactMapValues(\.int)
        merges = try Self.merges(fields.list("merges"), vocabulary)
        ignoresMerges = try fields.flagOrNil("ignore_merges") ?? false
        bytesFallBack = try fields.flagOrNil("byte_fallback") ?? false
        unknown = try fields.textOrNil("unk_token").flatMap { words.members[$0]?.int }
        fusesUnknown = try fields.flagOrNil("fuse_unk") ?? false
    }

    /// Merges are written as pairs, or in older files as one text with a space between.
    private static func merges(_ entries: [Json], _ vocabulary: [String: Int]) throws -> [Pair: Merge] {
        var merges: [Pair: Merge] = [:]
        merges.reserveCapacity(entries.count)
        for (rank, entry) in entries.enumerated() {
            let parts = entry.array?.compactMap(\.string) ?? (entry.string ?? "").split(separator: " ").map(String.init)
            guard parts.count == 2, let left = vocabulary[parts[0]], let right = vocabulary[parts[1]],
                let id = vocabulary[parts[0] + parts[1]]
            else { throw EdgeError("model.merges.\(rank): it merges tokens that are not in the vocabulary") }
            merges[Pair(left: left, right: right)] = Merge(rank: rank, id: id)
        }
        return merges
    }

    /// The ids of `piece`, which is spelled with ``ByteAlphabet``.
    func encode(_ piece: Text) -> [Int] {
        if ignoresMerges, let id = vocabulary[String(piece)] { return [id] }
        return merge(symbols(piece))
    }

    /// One id a character. A character that is no token falls back to the tokens of its bytes or to the unknown one.
    private func symbols(_ piece: Text) -> [Int] {
        var symbols: [Int] = []
        var endsUnknown = false
        for character in piece {
            let name = String(character)
            let known = vocabulary[name].map { [$0] } ?? fallBack(name)
            if let known {
                symbols += known
            } else if let unknown, !(fusesUnknown && endsUnknown) {
                symbols.append(unknown)
            }
            endsUnknown = known == nil
        }
        return symbols
    }

    private func fallBack(_ name: String) -> [Int]? {
        if !bytesFallBack { return nil }
        let ids = name.utf8.map { vocabulary["<0x" + byteHex($0).uppercased() + ">"] }
        return ids.contains(nil) ? nil : ids.compactMap { $0 }
    }

    /// Ranks are kept beside the symbols, so that a merge looks up only its two neighbours.
    private func merge(_ unmerged: [Int]) -> [Int] {
        var symbols = unmerged
        var ranks = symbols.indices.map { rank(symbols, $0) }
        while let at = lowest(ranks), let merge = merges[Pair(left: symbols[at], right: symbols[at + 1])] {
            symbols[at] = merge.id
            symbols.remove(at: at + 1)
            ranks.remove(at: at + 1)
            ranks[at] = rank(symbols, at)
            if at > 0 { ranks[at - 1] = rank(symbols, at - 1) }
        }
        return symbols
    }

    /// Where the lowest rank stands first; nil if no pair merges.
    private func lowest(_ ranks: [Int]) -> Int? {
        var lowest = Int.max
        var place: Int?
        for (index, rank) in ranks.enumerated() where rank < lowest {
            (lowest, place) = (rank, index)
        }
        return place
    }

    /// Rank of the pair that begins at `index`; the largest number if it does not merge.
    private func rank(_ symbols: [Int], _ index: Int) -> Int {
        guard index + 1 < symbols.count else { return Int.max }
        return merges[Pair(left: symbols[index], right: symbols[index + 1])]?.rank ?? Int.max
    }
}
