import Foundation

/// One step that cuts text into pieces before merging.
enum PreTokenizer: Sendable {
    /// To the byte alphabet; cut by GPT-2's pattern first if `cuts`.
    case byteLevel(addsSpace: Bool, cuts: Bool)
    /// Numerals by themselves: each one, or runs of them.
    case digits(each: Bool)
    /// Cut by a pattern: matches stay pieces of their own, or are dropped (with `keepsMatches`, all else is).
    case split(pattern: String, drops: Drops)

    enum Drops: Sendable {
        case nothing, matches, rest
    }

    var isByteLevel: Bool {
        if case .byteLevel = self { true } else { false }
    }

    /// The steps a tokenizer.json asks for, in order. Throws ``EdgeError`` for one it does not know.
    static func list(_ data: Json) throws -> [PreTokenizer] {
        if data.isNull { return [] }
        let fields = try JsonFields(data, "pre_tokenizer")
        let type = try fields.text("type")
        switch type {
        case "Sequence": return try fields.list("pretokenizers").flatMap(list)
        case "ByteLevel":
            let cuts = try fields.flagOrNil("use_regex") ?? true
            let addsSpace = try fields.flag("add_prefix_space")
            return [.byteLevel(addsSpace: addsSpace, cuts: cuts)]
        case "Digits": return [.digits(each: try fields.flag("individual_digits"))]
        case "Split": return [try split(fields)]
        default: throw EdgeError("pre_tokenizer.type: \(type) is not known here")
        }
    }

    private static func split(_ fields: JsonFields) throws -> PreTokenizer {
        let given = try fields.fields("pattern")
        let literal = try given.textOrNil("String").map { NSRegularExpression.escapedPattern(for: $0) }
        let pattern = try literal ?? translate(given.text("Regex"))
        guard (try? NSRegularExpression(pattern: pattern)) != nil else {
            throw EdgeError("pre_tokenizer.pattern: \(pattern) is no pattern this system can match")
        }
        let behavior = try fields.text("behavior")
        switch (behavior, try fields.flagOrNil("invert") ?? false) {
        case ("Isolated", _): return .split(pattern: pattern, drops: .nothing)
        case ("Removed", false): return .split(pattern: pattern, drops: .matches)
        case ("Removed", true): return .split(pattern: pattern, drops: .rest)
        default: throw EdgeError("pre_tokenizer.behavior: \(behavior) is not known here")
        }
    }

    /// `\s` means Unicode's white space in tokenizer.json, and less than that in ICU.
    private static func translate(_ pattern: String) -> String {
        let space = "\\x09-\\x0D\\x85\\p{Z}"
        return
            pattern
            .replacingOccurrences(of: "\\s", with: "[\(space)]", options: .literal)
            .replacingOccurrences(of: "\\S", with: "[^\(space)]", options: .literal)
    }

    /// The pieces of `pieces`, each cut by itself.
    func split(_ pieces: [Text]) -> [Text] {
        switch self {
        case .byteLevel(let addsSpace, let cuts):
            pieces.flatMap { piece -> [Text] in
                let spaced = addsSpace && piece.first != " " ? [" "] + piece : piece
                return (cuts ? Gpt2Pattern.cut(spaced) : [spaced]).map(Self.toBytes)
            }
        case .digits(let each): pieces.flatMap { Self.cutDigits($0, each: each) }
        case .split(let pattern, let drops): pieces.flatMap { Self.cut($0, pattern, drops) }
        }
    }

    private static func toBytes(_ piece: Text) -> Text {
        String(piece).utf8.map { ByteAlphabet.scalars[Int($0)] }
    }

    private static func cutDigits(_ piece: Text, each: Bool) -> [Text] {
        var out: [Text] = []
        var follows: Bool?
        for character in piece {
            let isNumeral = character.isNumeral
            if follows == isNumeral, !(each && isNumeral) {
                out[out.count - 1].append(character)
            } else {
                out.append([character])
            }
            follows = isNumeral
        }
        return out
    }

    private static func cut(_ piece: Text, _ pattern: String, _ drops: Drops) -> [Text] {
        guard let regex = try? NSRegularExpression(pattern: pattern) else { return [piece] }
        let text = String(piece) as NSString
        var out: [String] = []
        var done = 0
        for match in regex.matches(in: text as String, range: NSRange(location: 0, length: text.length)) {
            let between = NSRange(location: done, length: match.range.location - done)
            if drops != .rest { out.append(text.substring(with: between)) }
            if drops != .matches { out.append(text.substring(with: match.range)) }
            done = match.range.location + match.range.length
        }
        if drops != .rest { out.append(text.substring(from: done)) }
        return out.filter { !$0.isEmpty }.map(\.text)
    }
}

/// GPT-2's pattern, matched by hand so that every platform agrees on what a letter and a space are:
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
enum Gpt2Pattern {
    private static let endings: [Text] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map(\.text)

    private enum Kind {
        case letter, numeral, space, other

        init(_ scalar: Unicode.Scalar) {
            if scalar.properties.isWhitespace {
                self = .space
            } else if scalar.isLetter {
                self = .letter
            } else {
                self = scalar.isNumeral ? .numeral : .other
            }
        }
    }

    static func cut(_ text: Text) -> [Text] {
        var out: [Text] = []
        var at = 0
        while at < text.count {
            let end = self.end(text, at)
            out.append(Array(text[at..<end]))
            at = end
        }
        return out
    }

    /// Where the piece that begins at `start` ends.
    private static func end(_ text: Text, _ start: Int) -> Int {
        if let ending = endings.first(where: { text[start...].starts(with: $0) }) { return start + ending.count }
        let hasSpace = text[start] == " " && start + 1 < text.count && Kind(text[start + 1]) != .space
        let kind = Kind(text[hasSpace ? start + 1 : start])
        var end = start + 1
        while end < text.count, Kind(text[end]) == kind { end += 1 }
        // A run of spaces leaves its last one to the word after it.
        let leavesOne = kind == .space && end < text.count && end - start > 1
        return leavesOne ? end - 1 : end
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

    /// A letter, mark, digit or connector: what may not touch a token that stands alone.
    var isWord: Bool {
        switch properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark, .connectorPunctuation, .decimalNumber, .letterNumber: true
        default: isLetter
        }
    }
}
