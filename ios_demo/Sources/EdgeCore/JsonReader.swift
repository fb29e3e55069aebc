import Foundation

/// Reads JSON a piece at a time, once and in order, so that a large file needs no tree of itself.
///
/// RFC 8259 in UTF-8 and nothing more: no byte order mark, no half of a surrogate pair, no number beyond a double's
/// range, at most 64 brackets deep; in a tree no key twice. Anything else throws ``EdgeError`` (notJson) naming the
/// byte.
struct JsonReader {
    private static let maxDepth = 64
    private static let mostDigits = 15  // always below 2^53

    private let bytes: UnsafeRawBufferPointer
    private var at = 0
    private var depth = 0

    /// What `body` reads of `data`, after which nothing may follow but white space.
    static func read<Value>(_ data: Data, _ body: (inout JsonReader) throws -> Value) throws -> Value {
        try data.withUnsafeBytes { bytes in
            var reader = JsonReader(bytes: bytes)
            let value = try body(&reader)
            reader.skipSpace()
            if reader.peek() != nil { throw reader.fault("more after the end") }
            return value
        }
    }

    private init(bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
    }

    /// The next value, with all in it.
    mutating func value() throws -> Json {
        switch try next() {
        case UInt8(ascii: "{"): return .object(try tree { try $1.value() })
        case UInt8(ascii: "["):
            var values: [Json] = []
            try items { values.append(try $0.value()) }
            return .array(values)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: return .number(try number())
        }
    }

    /// Whether the next value is a list.
    mutating func isList() throws -> Bool {
        try next() == UInt8(ascii: "[")
    }

    /// Whether the next value is an object.
    mutating func isObject() throws -> Bool {
        try next() == UInt8(ascii: "{")
    }

    /// An object, whose every value `onKey` must read.
    mutating func members(_ onKey: (String, inout JsonReader) throws -> Void) throws {
        try inBrackets("{", "}") { reader in
            let key = try reader.string()
            try reader.expect(":")
            try onKey(key, &reader)
        }
    }

    /// A list, whose every value `onItem` must read.
    mutating func items(_ onItem: (inout JsonReader) throws -> Void) throws {
        try inBrackets("[", "]", onItem)
    }

    /// A text.
    mutating func string() throws -> String {
        try expect("\"")
        let start = at
        while true {
            switch try take() {
            case UInt8(ascii: "\""): return try text(UnsafeRawBufferPointer(rebasing: bytes[start..<at - 1]))
            case UInt8(ascii: "\\"):
                at -= 1
                return try escapedString(Array(bytes[start..<at]))
            case 0..<0x20: throw fault("a control character in a text")
            default: break
            }
        }
    }

    /// A number; a whole one of up to 15 digits is read without a copy of its text.
    mutating func number() throws -> Double {
        _ = try next()
        let start = at
        let isNegative = takes("-")
        let whole = try digits()
        let fraction = takes(".") ? try digits() : nil
        var exponent: Range<Int>?
        if takes("e") || takes("E") {
            if !takes("+") { _ = takes("-") }
            exponent = try digits()
        }
        if whole.count > 1, bytes[whole.lowerBound] == UInt8(ascii: "0") { throw fault("a number that begins with 0") }
        if fraction == nil, exponent == nil, whole.count <= Self.mostDigits {
            let value = whole.reduce(0) { $0 * 10 + Int(bytes[$1] - UInt8(ascii: "0")) }
            return Double(isNegative ? -value : value)
        }
        guard let value = Double(String(decoding: bytes[start..<at], as: UTF8.self)), value.isFinite else {
            throw fault("a number beyond a double's range")
        }
        return value
    }

    /// An object as a tree, whose every value `onKey` must read and return; no key twice.
    mutating func tree(_ onKey: (String, inout JsonReader) throws -> Json) throws -> [String: Json] {
        var members: [String: Json] = [:]
        try self.members { key, reader in
            let value = try onKey(key, &reader)
            if members.updateValue(value, forKey: key) != nil { throw reader.fault("a key twice") }
        }
        return members
    }

    private mutating func inBrackets(
        _ open: Unicode.Scalar, _ close: Unicode.Scalar, _ part: (inout JsonReader) throws -> Void
    ) throws {
        try expect(open)
        depth += 1
        if depth > Self.maxDepth { throw fault("more than \(Self.maxDepth) brackets deep") }
        if try next() == UInt8(ascii: close) {
            at += 1
        } else {
            repeat { try part(&self) } while try goesOn(close)
        }
        depth -= 1
    }

    /// After a part: whether a comma follows, or the end.
    private mutating func goesOn(_ close: Unicode.Scalar) throws -> Bool {
        let byte = try next()
        if byte != UInt8(ascii: ","), byte != UInt8(ascii: close) { throw fault("',' or '\(close)' was expected") }
        at += 1
        return byte == UInt8(ascii: ",")
    }

    private func text(_ utf8: some Sequence<UInt8>) throws -> String {
        guard let text = String(validating: utf8, as: UTF8.self) else { throw fault("a text is not UTF-8") }
        return text
    }

    /// The rest of a text from its first escape on, after `begun`.
    private mutating func escapedString(_ begun: [UInt8]) throws -> String {
        var out = begun
        while true {
            let byte = try take()
            switch byte {
            case UInt8(ascii: "\""): return try text(out)
            case UInt8(ascii: "\\"): try escape(into: &out)
            case 0..<0x20: throw fault("a control character in a text")
            default: out.append(byte)
            }
        }
    }

    private mutating func escape(into out: inout [UInt8]) throws {
        let byte = try take()
        switch byte {
        case UInt8(ascii: "n"): out.append(0x0A)
        case UInt8(ascii: "t"): out.append(0x09)
        case UInt8(ascii: "r"): out.append(0x0D)
        case UInt8(ascii: "b"): out.append(0x08)
        case UInt8(ascii: "f"): out.append(0x0C)
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(byte)
        case UInt8(ascii: "u"): out.append(contentsOf: String(Character(try unicodeEscape())).utf8)
        default: throw fault("an unknown escape")
        }
    }

    /// After `\u`: one code point, from one escape or a surrogate pair.
    private mutating func unicodeEscape() throws -> Unicode.Scalar {
        let first = try hexadecimal()
        if let scalar = Unicode.Scalar(first) { return scalar }
        if first < 0xDC00, takes("\\"), takes("u") {
            let second = try hexadecimal()
            let code = 0x10000 + (first - 0xD800) << 10 + (second & 0x3FF)
            if (0xDC00...0xDFFF).contains(second), let scalar = Unicode.Scalar(code) { return scalar }
        }
        throw fault("half of a surrogate pair")
    }

    private mutating func hexadecimal() throws -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            let byte = try take()
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 + UInt32(byte - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 + UInt32(byte - UInt8(ascii: "a") + 10)
            case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 + UInt32(byte - UInt8(ascii: "A") + 10)
            default: throw fault("a bad \\u escape")
            }
        }
        return value
    }

    /// Digits, at least one.
    private mutating func digits() throws -> Range<Int> {
        let start = at
        while let byte = peek(), (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { at += 1 }
        if at == start { throw fault("a value was expected") }
        return start..<at
    }

    private mutating func word(_ word: StaticString, _ value: Json) throws -> Json {
        for index in 0..<word.utf8CodeUnitCount where try take() != word.utf8Start[index] {
            throw fault("a value was expected")
        }
        return value
    }

    private mutating func expect(_ character: Unicode.Scalar) throws {
        if try next() != UInt8(ascii: character) { throw fault("'\(character)' was expected") }
        at += 1
    }

    private mutating func takes(_ character: Unicode.Scalar) -> Bool {
        if peek() != UInt8(ascii: character) { return false }
        at += 1
        return true
    }

    private mutating func take() throws -> UInt8 {
        guard let byte = peek() else { throw fault("the end came too early") }
        at += 1
        return byte
    }

    /// The next byte that is no white space; it stays.
    private mutating func next() throws -> UInt8 {
        skipSpace()
        guard let byte = peek() else { throw fault("the end came too early") }
        return byte
    }

    private mutating func skipSpace() {
        while let byte = peek(), byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { at += 1 }
    }

    private func peek() -> UInt8? {
        at < bytes.count ? bytes[at] : nil
    }

    private func fault(_ what: String) -> EdgeError {
        EdgeError("not JSON: byte \(at). \(what). Write the file again.", .notJson)
    }
}
