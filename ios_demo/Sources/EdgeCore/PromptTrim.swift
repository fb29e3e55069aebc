/// At which ends of a prompt white space is dropped before it is put into the template: what a chat template does.
public enum PromptTrim: String, Sendable {
    case none, both, start, end

    /// What Python's str.strip drops, which Jinja's trim is.
    private static let whiteSpace = Set(
        ("\t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f} \u{85}\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}"
            + "\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}").unicodeScalars)

    /// `prompt` without white space at the ends that this names; scalar by scalar, since "\r\n" is one character.
    public func trimmed(_ prompt: String) -> String {
        var scalars = prompt.unicodeScalars[...]
        if self == .both || self == .start {
            scalars = scalars.drop(while: Self.whiteSpace.contains)
        }
        if self == .both || self == .end {
            while let last = scalars.last, Self.whiteSpace.contains(last) { scalars.removeLast() }
        }
        return String(String.UnicodeScalarView(scalars))
    }

    /// The one that `text` names. Throws ``EdgeError``.
    static func named(_ text: String) throws -> PromptTrim {
        guard let trim = PromptTrim(rawValue: text) else { throw EdgeError("prompt_trim: \(text)", .badField) }
        return trim
    }
}
