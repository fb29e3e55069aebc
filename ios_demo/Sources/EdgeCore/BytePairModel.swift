/// Byte-pair encoding of one piece: the merge learned earliest is done first, the leftmost of equals first.
struct BytePairModel: Sendable {
    private let vocabulary: TokenTable
    private let merges: MergeTable
    private let ignoresMerges: Bool
    private let bytesFallBack: Bool
    private let fusesUnknown: Bool
    private let unknown: Int?
    private let bytes: [Int?]

    init(_ file: TokenizerFile) throws {
        vocabulary = file.vocabulary
        merges = file.merges
        ignoresMerges = try file.model.flagOrNil("ignore_merges") ?? false
        bytesFallBack = try file.model.flagOrNil("byte_fallback") ?? false
        fusesUnknown = try file.model.flagOrNil("fuse_unk") ?? false
        unknown = try file.model.textOrNil("unk_token").flatMap(file.vocabulary.find)
        bytes = (UInt8.min...UInt8.max).map { file.vocabulary.find(byteToken($0)) }
    }

    /// The ids of `piece`.
    func encode(_ piece: Text) -> [Int] {
        let utf8 = Array(String(piece).utf8)
        if ignoresMerges, let id = vocabulary.find(utf8, utf8.indices) { return [id] }
        return merge(symbols(utf8))
    }

    /// The text that `id` stands for; nil for one that is not of the model's own vocabulary.
    func text(_ id: Int) -> String? { vocabulary.text(id) }

    /// One id a character. A character that is no token falls back to the tokens of its bytes or to the unknown one.
    private func symbols(_ utf8: [UInt8]) -> [Int] {
        var symbols: [Int] = []
        symbols.reserveCapacity(utf8.count)
        var isUnknown = false  // one is due, or more are fused into it
        var begin = 0
        while begin < utf8.count {
            let end = begin + Self.length(utf8[begin])
            if let id = vocabulary.find(utf8, begin..<end) {
                if isUnknown, let unknown { symbols.append(unknown) }
                isUnknown = false
                symbols.append(id)
            } else if let own = fallBack(utf8[begin..<end]) {
                symbols += own
            } else if let unknown {
                if isUnknown, !fusesUnknown { symbols.append(unknown) }
                isUnknown = true
            }
            begin = end
        }
        if isUnknown, let unknown { symbols.append(unknown) }
        return symbols
    }

    private func fallBack(_ character: ArraySlice<UInt8>) -> [Int]? {
        if !bytesFallBack { return nil }
        let ids = character.compactMap { bytes[Int($0)] }
        return ids.count == character.count ? ids : nil
    }

    /// How many bytes the character has that begins with `lead`.
    private static func length(_ lead: UInt8) -> Int {
        switch lead {
        case 0x00...0x7F: 1
        case 0xC0...0xDF: 2
        case 0xE0...0xEF: 3
        default: 4
        }
    }

    /// A linked list of symbols and a queue of the pairs that may merge, so that long pieces stay fast.
    private func merge(_ unmerged: [Int]) -> [Int] {
        let merged = -1
        var symbols = unmerged
        var next = symbols.indices.map { $0 + 1 }
        var previous = symbols.indices.map { $0 - 1 }
        var queue = MergeQueue()
        func offer(_ left: Int) {
            guard left >= 0, next[left] < symbols.count else { return }
            if let merge = merges.find(symbols[left], symbols[next[left]]) {
                queue.push(MergeQueue.Candidate(rank: merge.rank, left: Int32(left), id: merge.id))
            }
        }
        for left in symbols.indices { offer(left) }
        while let candidate = queue.pop() {
            let left = Int(candidate.left)
            if symbols[left] == merged || next[left] >= symbols.count { continue }
            let right = next[left]
            // The pair may have changed since it was queued.
            guard merges.find(symbols[left], symbols[right])?.id == candidate.id else { continue }
            symbols[left] = Int(candidate.id)
            symbols[right] = merged
            next[left] = next[right]
            if next[left] < symbols.count { previous[next[left]] = left }
            offer(previous[left])
            offer(left)
        }
        return symbols.filter { $0 != merged }
    }
}

/// Pairs that may merge, the lowest rank first and the leftmost of equals: a binary heap.
private struct MergeQueue {
    struct Candidate {
        let rank: Int32
        let left: Int32
        let id: Int32

        func isBefore(_ other: Candidate) -> Bool { rank == other.rank ? left < other.left : rank < other.rank }
    }

    private var heap: [Candidate] = []

    mutating func push(_ candidate: Candidate) {
        heap.append(candidate)
        var at = heap.count - 1
        while at > 0, heap[at].isBefore(heap[(at - 1) / 2]) {
            heap.swapAt(at, (at - 1) / 2)
            at = (at - 1) / 2
        }
    }

    mutating func pop() -> Candidate? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if heap.isEmpty { return first }
        heap[0] = last
        var at = 0
        while let child = lowerChild(at), heap[child].isBefore(heap[at]) {
            heap.swapAt(at, child)
            at = child
        }
        return first
    }

    private func lowerChild(_ at: Int) -> Int? {
        let left = 2 * at + 1
        guard left < heap.count else { return nil }
        return left + 1 < heap.count && heap[left + 1].isBefore(heap[left]) ? left + 1 : left
    }
}
