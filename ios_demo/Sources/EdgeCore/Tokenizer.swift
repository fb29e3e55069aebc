/// A stretch of a prompt: the template's own words, or the user's.
public struct PromptPart: Sendable, Equatable {
    public let text: String
    public let isUser: Bool

    public init(_ text: String, isUser: Bool) {
        self.text = text
        self.isUser = isUser
    }
}

/// Text to token ids exactly as Hugging Face's tokenizers does it, for byte-level and SentencePiece BPE.
///
/// Added tokens are cut out first, then each stretch between them is normalized, split by the pre-tokenizers and
/// merged. In a prompt the user's words are data: an added token that touches them is text.
public struct Tokenizer: Sendable {
    private let normalizer: TextNormalizer
    private let added: AddedTokens
    private let normalizedAdded: AddedTokens
    private let special: Set<Int>
    private let byContent: [Text: Int]
    private let preTokenizer: PreTokenizer
    private let model: BytePairModel

    /// Throws ``EdgeError`` naming what `file` asks for that is not known here.
    public init(_ file: TokenizerFile) throws {
        let normalizer = try TextNormalizer(file)
        self.normalizer = normalizer
        added = AddedTokens(file.addedTokens.filter { !$0.isNormalized })
        normalizedAdded = AddedTokens(
            file.addedTokens.filter(\.isNormalized).map { token in
                var token = token
                token.content = String(normalizer.normalize(token.content.text))
                return token
            })
        special = Set(file.addedTokens.filter(\.isSpecial).map(\.id))
        byContent = Dictionary(file.addedTokens.map { ($0.content.text, $0.id) }) { $1 }
        preTokenizer = try PreTokenizer(file)
        model = try BytePairModel(file)
        try TokenizerBounds.check(file)
    }

    /// The ids of `text`, no special token put around them.
    public func encode(_ text: String) -> [Int] {
        encode([PromptPart(text, isUser: false)], delimiters: [])
    }

    /// The ids of the text that `parts` make together.
    ///
    /// A stretch with user text holds no special token and none of `delimiters` (texts of added tokens): should the
    /// model itself merge one, its characters' tokens stand instead.
    public func encode(_ parts: [PromptPart], delimiters: [String]) -> [Int] {
        let spelled = parts.map { (text: $0.text.text, isUser: $0.isUser) }
        let text = spelled.flatMap(\.text)
        let template = Self.spans(spelled, isUser: false)
        let users = Self.spans(spelled, isUser: true)
        let forbidden = special.union(delimiters.compactMap { byContent[$0.text] })
        return added.split(text, template).flatMap { found -> [Int] in
            switch found {
            case .token(let id): return [id]
            case .text(let stretch):
                let own = users.filter { $0.lowerBound < stretch.upperBound && stretch.lowerBound < $0.upperBound }
                return encode(text, stretch, own, own.isEmpty ? [] : forbidden)
            }
        }
    }

    /// The ids of `text` within `stretch`, where no added token is but those of normalized text.
    private func encode(_ text: Text, _ stretch: Range<Int>, _ users: [Range<Int>], _ forbidden: Set<Int>) -> [Int] {
        let normalized = normalizer.normalize(Array(text[stretch]))
        let within = users.isEmpty ? [normalized.indices] : template(of: normalized, text, stretch, users)
        return normalizedAdded.split(normalized, within).flatMap { found -> [Int] in
            switch found {
            case .token(let id): return [id]
            case .text(let span):
                let isFirst = stretch.lowerBound == 0 && span.lowerBound == 0
                let ids = preTokenizer.split(Array(normalized[span]), isFirst: isFirst).flatMap(model.encode)
                return ids.flatMap { forbidden.contains($0) ? spelledOut($0) : [$0] }
            }
        }
    }

    /// What of `normalized` begins and ends like the template's own words in `stretch`, normalized alone.
    private func template(
        of normalized: Text, _ text: Text, _ stretch: Range<Int>, _ users: [Range<Int>]
    ) -> [Range<Int>] {
        guard !normalizedAdded.isEmpty, let first = users.first, let last = users.last else { return [] }
        let head = normalizer.normalize(Array(text[stretch.lowerBound..<max(first.lowerBound, stretch.lowerBound)]))
        let tail = normalizer.normalize(Array(text[min(last.upperBound, stretch.upperBound)..<stretch.upperBound]))
        let before = zip(head, normalized).prefix { $0 == $1 }.count
        let after = zip(tail.reversed(), normalized[before...].reversed()).prefix { $0 == $1 }.count
        return [0..<before, (normalized.count - after)..<normalized.count]
    }

    private func spelledOut(_ id: Int) -> [Int] {
        let text = model.text(id)?.text ?? []
        return text.count < 2 ? [id] : text.flatMap { model.encode([$0]) }
    }

    /// Where in the whole text the user's parts lie, or the template's; parts that touch are one.
    private static func spans(_ parts: [(text: Text, isUser: Bool)], isUser: Bool) -> [Range<Int>] {
        var spans: [Range<Int>] = []
        var begin = 0
        for part in parts {
            let end = begin + part.text.count
            if part.isUser == isUser, end > begin {
                if let last = spans.last, last.upperBound == begin {
                    spans[spans.count - 1] = last.lowerBound..<end
                } else {
                    spans.append(begin..<end)
                }
            }
            begin = end
        }
        return spans
    }
}
