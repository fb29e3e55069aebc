import Foundation

/// Cuts text into the pieces within which merges may happen, spelled as the vocabulary spells them.
struct PreTokenizer: Sendable {
    private enum Step: Sendable {
        /// To the byte alphabet; cut by GPT-2's pattern first if `cuts`.
        case byteLevel(addsSpace: Bool, cuts: Bool)
        /// Numerals by themselves: each one, or runs of them.
        case digits(each: Bool)
        /// Spaces become `mark`, one is put before, and each begins a piece, as far as each is asked for.
        case metaspace(mark: Text, prepends: Prepends, cuts: Bool)
        /// Cut by a pattern; inverted, what is between its matches counts as one.
        case split(NSRegularExpression, SplitBehavior, isInverted: Bool)
    }

    private enum Prepends: String, Sendable {
        case always, first, never
    }

    private let steps: [Step]

    /// Throws ``EdgeError`` for a step it does not know.
    init(_ file: TokenizerFile) throws {
        steps = try file.steps("pre_tokenizer").map(Self.step)
    }

    /// The pieces of `text`, none empty, in order; `isFirst` if it stands at the whole text's start.
    func split(_ text: Text, isFirst: Bool) -> [Text] {
        steps.reduce([text]) { pieces, step in
            pieces.enumerated()
                .flatMap { Self.cut($0.element, step, isFirst: isFirst && $0.offset == 0) }
                .filter { !$0.isEmpty }
        }
    }

    private static func step(_ fields: JsonFields) throws -> Step {
        let type = try fields.text("type")
        switch type {
        case "ByteLevel":
            let cuts = try fields.flagOrNil("use_regex") ?? true
            return .byteLevel(addsSpace: try fields.flag("add_prefix_space"), cuts: cuts)
        case "Digits": return .digits(each: try fields.flag("individual_digits"))
        case "Metaspace": return try metaspace(fields)
        case "Split": return try split(fields)
        default: throw unsupported("pre_tokenizer.type: \(type)")
        }
    }

    private static func metaspace(_ fields: JsonFields) throws -> Step {
        var name = fields.has("prepend_scheme") ? try fields.text("prepend_scheme") : "always"
        if try fields.flagOrNil("add_prefix_space") == false { name = "never" }
        guard let prepends = Prepends(rawValue: name) else {
            throw unsupported("pre_tokenizer.prepend_scheme: \(name)")
        }
        let cuts = try fields.flagOrNil("split") ?? true
        return .metaspace(mark: try fields.filled("replacement").text, prepends: prepends, cuts: cuts)
    }

    private static func split(_ fields: JsonFields) throws -> Step {
        let given = try fields.fields("pattern")
        let pattern =
            given.has("Regex")
            ? translate(try given.text("Regex"))
            : NSRegularExpression.escapedPattern(for: try given.filled("String"))
        guard let regex = try? NSRegularExpression(pattern: pattern) else {
            throw unsupported("pre_tokenizer.pattern: \(pattern)")
        }
        let name = try fields.text("behavior")
        guard let behavior = SplitBehavior(rawValue: name) else {
            throw unsupported("pre_tokenizer.behavior: \(name)")
        }
        return .split(regex, behavior, isInverted: try fields.flagOrNil("invert") ?? false)
    }

    /// `\s` means Unicode's white space in tokenizer.json, and less than that in ICU.
    private static func translate(_ pattern: String) -> String {
        let space = "\\x09-\\x0D\\x85\\p{Z}"
        return
            pattern
            .replacingOccurrences(of: "\\s", with: "[\(space)]", options: .literal)
            .replacingOccurrences(of: "\\S", with: "[^\(space)]", options: .literal)
    }

    private static func cut(_ text: Text, _ step: Step, isFirst: Bool) -> [Text] {
        switch step {
        case .byteLevel(let addsSpace, let cuts):
            let spaced = addsSpace && text.first != " " ? [" "] + text : text
            return (cuts ? Gpt2Pattern.cut(spaced) : [spaced]).map(toBytes)
        case .digits(let each):
            let runs = SplitBehavior.contiguous.cut(text.map { ([$0], $0.isNumeral) })
            return each ? runs.flatMap { $0[0].isNumeral ? $0.map { [$0] } : [$0] } : runs
        case .metaspace(let mark, let prepends, let cuts):
            let marked = text.replacing([" "], by: mark)
            let isAsked = prepends == .always || prepends == .first && isFirst
            let whole = isAsked && !marked.starts(with: mark) ? mark + marked : marked
            return cuts ? SplitBehavior.mergedWithNext.cut(stretches(whole, mark)) : [whole]
        case .split(let regex, let behavior, let isInverted):
            return behavior.cut(stretches(text, regex).map { ($0.text, $0.isMatch != isInverted) })
        }
    }

    private static func toBytes(_ piece: Text) -> Text {
        String(piece).utf8.map { ByteAlphabet.scalars[Int($0)] }
    }

    /// All of `text` in order: each match of `regex`, and each stretch between.
    private static func stretches(_ text: Text, _ regex: NSRegularExpression) -> [(text: Text, isMatch: Bool)] {
        let whole = String(text) as NSString
        var out: [(text: Text, isMatch: Bool)] = []
        var done = 0
        func add(_ begin: Int, _ end: Int, _ isMatch: Bool) {
            if begin < end {
                out.append((whole.substring(with: NSRange(location: begin, length: end - begin)).text, isMatch))
            }
        }
        for match in regex.matches(in: whole as String, range: NSRange(location: 0, length: whole.length)) {
            add(done, match.range.location, false)
            done = match.range.location + match.range.length
            add(match.range.location, done, true)
        }
        add(done, whole.length, false)
        return out
    }

    /// The same for the text `mark`.
    private static func stretches(_ text: Text, _ mark: Text) -> [(text: Text, isMatch: Bool)] {
        var out: [(text: Text, isMatch: Bool)] = []
        var done = 0
        while let found = text.firstIndex(of: mark, from: done) {
            if done < found { out.append((Array(text[done..<found]), false)) }
            out.append((mark, true))
            done = found + mark.count
        }
        if done < text.count { out.append((Array(text[done...]), false)) }
        return out
    }
}

/// What becomes of the matches of a pattern, and of what is between them.
private enum SplitBehavior: String, Sendable {
    case isolated = "Isolated"
    case removed = "Removed"
    case mergedWithPrevious = "MergedWithPrevious"
    case mergedWithNext = "MergedWithNext"
    case contiguous = "Contiguous"

    /// The pieces that `stretches` make, each by itself or joined to the one before.
    func cut(_ stretches: [(text: Text, isMatch: Bool)]) -> [Text] {
        var pieces: [Text] = []
        var follows = false  // whether the last piece ends with a match
        for (text, isMatch) in stretches {
            let joins =
                switch self {
                case .isolated, .removed: false
                case .mergedWithPrevious: isMatch && !follows
                case .mergedWithNext: !isMatch && follows
                case .contiguous: isMatch == follows
                }
            if joins, !pieces.isEmpty {
                pieces[pieces.count - 1] += text
            } else if self != .removed || !isMatch {
                pieces.append(text)
            }
            follows = isMatch
        }
        return pieces
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
