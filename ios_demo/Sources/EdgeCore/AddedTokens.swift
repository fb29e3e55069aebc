/// One entry of added_tokens.
struct AddedToken: Sendable {
    let id: Int
    var content: String
    let standsAlone: Bool
    let stripsLeft: Bool
    let stripsRight: Bool
    let isNormalized: Bool
    let isSpecial: Bool

    init(_ value: Json, _ index: Int) throws {
        let token = try JsonFields(value, "added_tokens.\(index)")
        id = try token.whole("id", 0...(1 << 24 - 1))
        content = try token.text("content")
        standsAlone = try token.flag("single_word")
        stripsLeft = try token.flag("lstrip")
        stripsRight = try token.flag("rstrip")
        isNormalized = try token.flag("normalized")
        isSpecial = try token.flag("special")
    }
}

/// Finds added tokens in text: leftmost first, the longest of those that begin at one place.
struct AddedTokens: Sendable {
    /// What `split` finds.
    enum Found {
        case token(Int)
        case text(Range<Int>)
    }

    private let byFirst: [Unicode.Scalar: [(content: Text, token: AddedToken)]]

    init(_ tokens: [AddedToken]) {
        let spelled = tokens.map { (content: $0.content.text, token: $0) }.filter { !$0.content.isEmpty }
        byFirst = Dictionary(grouping: spelled.sorted { $0.content.count > $1.content.count }) { $0.content[0] }
    }

    var isEmpty: Bool { byFirst.isEmpty }

    /// In order, every token in `text` that lies in one of `within`, and what is between them.
    func split(_ text: Text, _ within: [Range<Int>]) -> [Found] {
        var found: [Found] = []
        var from = 0
        var at = 0
        while at < text.count {
            guard let (content, token) = longest(text, at, within) else {
                at += 1
                continue
            }
            let end = at + content.count
            if !token.standsAlone || Self.standsAlone(text, at, end) {
                var begin = at
                while token.stripsLeft, begin > from, text[begin - 1].properties.isWhitespace { begin -= 1 }
                if begin > from { found.append(.text(from..<begin)) }
                found.append(.token(token.id))
                from = end
                while token.stripsRight, from < text.count, text[from].properties.isWhitespace { from += 1 }
            }
            at = max(end, from)
        }
        if from < text.count { found.append(.text(from..<text.count)) }
        return found
    }

    private func longest(_ text: Text, _ at: Int, _ within: [Range<Int>]) -> (content: Text, token: AddedToken)? {
        byFirst[text[at]]?.first { content, _ in
            let end = at + content.count
            return text[at...].starts(with: content) && within.contains { $0.lowerBound <= at && end <= $0.upperBound }
        }
    }

    private static func standsAlone(_ text: Text, _ begin: Int, _ end: Int) -> Bool {
        let followsWord = begin > 0 && text[begin - 1].isWord
        return !followsWord && !(end < text.count && text[end].isWord)
    }
}

extension Unicode.Scalar {
    var isLetter: Bool {
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
        default: false
        }
    }

    var isNumeral: Bool {
        switch properties.generalCategory {
        case .decimalNumber, .letterNumber, .otherNumber: true
        default: false
        }
    }

    /// What `\w` holds in the regular expressions of Rust: what may not touch a token that stands alone.
    var isWord: Bool {
        switch properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark, .connectorPunctuation, .decimalNumber, .letterNumber: true
        default: isLetter || Self.wordsBesides.contains { $0.contains(value) }
        }
    }

    /// Joiners and enclosed letters.
    private static let wordsBesides: [ClosedRange<UInt32>] = [
        0x200C...0x200D, 0x24B6...0x24E9, 0x1F130...0x1F149, 0x1F150...0x1F169, 0x1F170...0x1F189,
    ]
}
