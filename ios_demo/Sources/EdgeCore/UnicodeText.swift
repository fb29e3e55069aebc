/// Text as Unicode code points, the way Python and Kotlin's port see it.
///
/// Swift's `String` compares by canonical equivalence and counts grapheme clusters (`"\r\n"` is one
/// character); a decoder that must cut and compare exactly the same everywhere works on scalars.
typealias Text = [Unicode.Scalar]

extension String {
    /// A string of exactly these code points.
    init(_ text: some Sequence<Unicode.Scalar>) {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: text)
        self.init(view)
    }

    /// The code points.
    var text: Text { Array(unicodeScalars) }

    /// Equal code point by code point, not by canonical equivalence.
    public func isIdentical(to other: String) -> Bool {
        unicodeScalars.elementsEqual(other.unicodeScalars)
    }
}

extension Array where Element == Unicode.Scalar {
    /// Where `part` first begins at or after `start`; nil if it does not occur.
    func firstIndex(of part: Text, from start: Int = 0) -> Int? {
        guard start >= 0, part.count <= count, start <= count - part.count else { return nil }
        return (start...(count - part.count)).first { matches(part, at: $0) }
    }

    /// With every `part`, from the left, become `other`.
    func replacing(_ part: Text, by other: Text) -> Text {
        var out: Text = []
        var done = 0
        while let found = firstIndex(of: part, from: done) {
            out += self[done..<found] + other
            done = found + part.count
        }
        return out + self[done...]
    }

    /// Where `part` last begins; nil if it does not occur.
    func lastIndex(of part: Text) -> Int? {
        guard part.count <= count else { return nil }
        return stride(from: count - part.count, through: 0, by: -1).first { matches(part, at: $0) }
    }

    /// Whether `part` stands at `index`; the caller has checked that it fits.
    private func matches(_ part: Text, at index: Int) -> Bool {
        for offset in 0..<part.count where self[index + offset] != part[offset] {
            return false
        }
        return true
    }

    /// Without white space at either end, as Python's `str.strip`.
    func stripped() -> Text {
        guard let first = firstIndex(where: { !$0.isSpace }), let last = lastIndex(where: { !$0.isSpace }) else {
            return []
        }
        return Array(self[first...last])
    }
}

extension Unicode.Scalar {
    /// White space as Python's `str.strip` sees it: Unicode's, and the four information separators.
    var isSpace: Bool {
        properties.isWhitespace || (0x1C...0x1F).contains(value)
    }
}
