/// Texts in UTF-8, one after the other in one array instead of an object each.
struct TextList: Sendable {
    private(set) var bytes: [UInt8] = []
    private var ends: [Int32] = []

    /// How many texts there are.
    var count: Int { ends.count }

    mutating func append(_ text: String) {
        bytes.append(contentsOf: text.utf8)
        ends.append(Int32(bytes.count))
    }

    /// Takes the last text back.
    mutating func removeLast() {
        ends.removeLast()
        bytes.removeLast(bytes.count - Int(ends.last ?? 0))
    }

    /// Where in `bytes` the text at `index` lies.
    func range(_ index: Int) -> Range<Int> {
        (index == 0 ? 0 : Int(ends[index - 1]))..<Int(ends[index])
    }

    subscript(index: Int) -> String { String(decoding: bytes[range(index)], as: UTF8.self) }
}

/// A vocabulary: texts with their ids, found by their bytes. Swift's own strings equal those that only look alike.
struct TokenTable: Sendable {
    private var texts = TextList()
    private var ids: [Int32] = []
    private var slots = [Int32](repeating: 0, count: 1 << 10)  // a text's index + 1, 0 where none is

    /// Adds `text` with `id`; false if it is there already.
    mutating func add(_ text: String, _ id: Int) -> Bool {
        texts.append(text)
        let slot = self.slot(texts.bytes, texts.range(texts.count - 1))
        if slots[slot] != 0 {
            texts.removeLast()
            return false
        }
        ids.append(Int32(id))
        slots[slot] = Int32(ids.count)
        if 2 * ids.count > slots.count { grow() }
        return true
    }

    /// The id of the text that lies in `source` at `range`; nil if there is none.
    func find(_ source: [UInt8], _ range: Range<Int>) -> Int? {
        let found = slots[slot(source, range)]
        return found == 0 ? nil : Int(ids[Int(found) - 1])
    }

    /// The id of `text`; nil if there is none.
    func find(_ text: String) -> Int? {
        let utf8 = Array(text.utf8)
        return find(utf8, utf8.indices)
    }

    /// The text of `id`; nil if there is none.
    func text(_ id: Int) -> String? {
        ids.firstIndex { $0 == id }.map { texts[$0] }
    }

    /// Hands every text and its id to `onText`.
    func forEach(_ onText: (String, Int) throws -> Void) rethrows {
        for (index, id) in ids.enumerated() { try onText(texts[index], Int(id)) }
    }

    /// The largest id; -1 if there is none.
    var largestId: Int { Int(ids.max() ?? -1) }

    /// The slot of that text, or the free one where it would go.
    private func slot(_ source: [UInt8], _ range: Range<Int>) -> Int {
        var hash: UInt32 = 0
        for index in range { hash = (hash ^ UInt32(source[index])) &* 16_777_619 }  // FNV
        var slot = Int(spread(hash)) & (slots.count - 1)
        while slots[slot] != 0, !isAt(Int(slots[slot]) - 1, source, range) { slot = (slot + 1) & (slots.count - 1) }
        return slot
    }

    private func isAt(_ index: Int, _ source: [UInt8], _ range: Range<Int>) -> Bool {
        let mine = texts.range(index)
        return mine.count == range.count
            && (0..<range.count).allSatisfy {
                texts.bytes[mine.lowerBound + $0] == source[range.lowerBound + $0]
            }
    }

    private mutating func grow() {
        slots = [Int32](repeating: 0, count: 4 * slots.count)
        for index in ids.indices { slots[slot(texts.bytes, texts.range(index))] = Int32(index + 1) }
    }
}

/// Which pairs of tokens merge, in what order, into what. The pair learned earliest has the lowest rank.
struct MergeTable: Sendable {
    struct Merge: Sendable {
        let rank: Int32
        let id: Int32
    }

    private static let free: UInt64 = .max
    private var pairs: [UInt64]
    private var merges: [Merge]

    /// A table for about `expected` merges; it does not grow.
    init(expected: Int) {
        var size = 4
        while size < 2 * expected { size *= 2 }
        pairs = [UInt64](repeating: Self.free, count: size)
        merges = [Merge](repeating: Merge(rank: 0, id: 0), count: size)
    }

    /// Merges `left` and `right` into `id`; of a pair given twice the last counts.
    mutating func add(_ left: Int, _ right: Int, rank: Int, id: Int) {
        let pair = Self.pair(left, right)
        let slot = self.slot(pair)
        pairs[slot] = pair
        merges[slot] = Merge(rank: Int32(rank), id: Int32(id))
    }

    /// What `left` and `right` merge into; nil if they do not.
    func find(_ left: Int, _ right: Int) -> Merge? {
        let slot = self.slot(Self.pair(left, right))
        return pairs[slot] == Self.free ? nil : merges[slot]
    }

    private func slot(_ pair: UInt64) -> Int {
        let mixed = pair &* 0x9E37_79B9_7F4A_7C15  // 2^64 divided by the golden ratio
        var slot = Int(spread(UInt32(truncatingIfNeeded: mixed >> 32))) & (pairs.count - 1)
        while pairs[slot] != Self.free, pairs[slot] != pair { slot = (slot + 1) & (pairs.count - 1) }
        return slot
    }

    private static func pair(_ left: Int, _ right: Int) -> UInt64 { UInt64(left) << 32 | UInt64(right) }
}

/// Short texts differ in few bits; here each bit moves all others, so that a table's slots fill evenly.
private func spread(_ hash: UInt32) -> UInt32 {
    let half = (hash ^ hash >> 15) &* 2_246_822_507
    let whole = (half ^ half >> 13) &* 3_266_489_909
    return whole ^ whole >> 16
}
