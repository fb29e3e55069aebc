import Foundation

/// A JSON value. An own reader keeps every string exactly as written, the same on every platform.
public indirect enum Json: Sendable, Equatable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([Json])
    case object([String: Json])

    public var isNull: Bool { self == .null }

    public var bool: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    public var number: Double? {
        if case .number(let value) = self { value } else { nil }
    }

    /// A whole number, exactly; nil for fractions and what a double cannot hold exactly.
    public var int: Int? {
        guard let value = number, value == value.rounded(), abs(value) <= 9_007_199_254_740_992 else { return nil }
        return Int(value)
    }

    public var string: String? {
        if case .string(let value) = self { value } else { nil }
    }

    public var array: [Json]? {
        if case .array(let value) = self { value } else { nil }
    }

    public var object: [String: Json]? {
        if case .object(let value) = self { value } else { nil }
    }

    /// A member of an object; null if there is none.
    public subscript(key: String) -> Json {
        object?[key] ?? .null
    }

    /// Text as JSON, keys sorted, no white space.
    public func write() -> String {
        switch self {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .number(let value): Json.write(value)
        case .string(let value): Json.write(value)
        case .array(let values): "[" + values.map { $0.write() }.joined(separator: ",") + "]"
        case .object(let members): Json.write(members)
        }
    }

    private static func write(_ members: [String: Json]) -> String {
        let pairs = members.sorted { $0.key < $1.key }.map { "\(write($0.key)):\($0.value.write())" }
        return "{" + pairs.joined(separator: ",") + "}"
    }

    private static func write(_ value: Double) -> String {
        if !value.isFinite { return "null" }
        return Json.number(value).int.map(String.init) ?? "\(value)"
    }

    private static func write(_ value: String) -> String {
        var out = "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\u{00}"..."\u{1F}", "\u{7F}":
                let digits = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }

    /// Parses UTF-8 `data`. Throws ``EdgeError`` naming the byte where it stops being JSON.
    public static func parse(_ data: Data) throws -> Json {
        var reader = JsonReader([UInt8](data))
        return try reader.document()
    }

    /// Reads and parses the file at `url`.
    public static func read(_ url: URL) throws -> Json {
        try parse(Data(contentsOf: url))
    }
}

/// A recursive reader of one JSON text.
private struct JsonReader {
    private let bytes: [UInt8]
    private var at = 0
    private var depth = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    mutating func document() throws -> Json {
        let value = try self.value()
        skipSpace()
        if at != bytes.count { throw fault() }
        return value
    }

    private mutating func value() throws -> Json {
        skipSpace()
        switch peek() {
        case UInt8(ascii: "{"): return try nested { try $0.object() }
        case UInt8(ascii: "["): return try nested { try $0.array() }
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: return .number(try number())
        }
    }

    /// One level deeper; a hostile file must not overflow the stack.
    private mutating func nested(_ read: (inout JsonReader) throws -> Json) throws -> Json {
        depth += 1
        defer { depth -= 1 }
        if depth > 100 { throw EdgeError("JSON nested too deeply at byte \(at)") }
        at += 1
        return try read(&self)
    }

    private mutating func object() throws -> Json {
        var members: [String: Json] = [:]
        if take(UInt8(ascii: "}")) { return .object(members) }
        repeat {
            skipSpace()
            let key = try string()
            if !take(UInt8(ascii: ":")) { throw fault() }
            members[key] = try value()
        } while take(UInt8(ascii: ","))
        if !take(UInt8(ascii: "}")) { throw fault() }
        return .object(members)
    }

    private mutating func array() throws -> Json {
        var values: [Json] = []
        if take(UInt8(ascii: "]")) { return .array(values) }
        repeat {
            values.append(try value())
        } while take(UInt8(ascii: ","))
        if !take(UInt8(ascii: "]")) { throw fault() }
        return .array(values)
    }

    private mutating func string() throws -> String {
        if peek() != UInt8(ascii: "\"") { throw fault() }
        at += 1
        var out: [UInt8] = []
        while let byte = peek() {
            at += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let text = String(validating: out, as: UTF8.self) else { throw fault() }
                return text
            case UInt8(ascii: "\\"): try escape(into: &out)
            case 0..<0x20: throw fault()
            default: out.append(byte)
            }
        }
        throw fault()
    }

    private mutating func escape(into out: inout [UInt8]) throws {
        guard let byte = peek() else { throw fault() }
        at += 1
        switch byte {
        case UInt8(ascii: "n"): out.append(0x0A)
        case UInt8(ascii: "t"): out.append(0x09)
        case UInt8(ascii: "r"): out.append(0x0D)
        case UInt8(ascii: "b"): out.append(0x08)
        case UInt8(ascii: "f"): out.append(0x0C)
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(byte)
        case UInt8(ascii: "u"): out.append(contentsOf: String(Character(try unicodeEscape())).utf8)
        default: throw fault()
        }
    }

    /// After `\u`: one code point, from one escape or a surrogate pair; half a pair becomes U+FFFD.
    private mutating func unicodeEscape() throws -> Unicode.Scalar {
        let first = try hexadecimal()
        guard (0xD800...0xDFFF).contains(first) else { return Unicode.Scalar(first) ?? "\u{FFFD}" }
        let pairFollows = first < 0xDC00 && peek() == UInt8(ascii: "\\") && peek(1) == UInt8(ascii: "u")
        guard pairFollows else { return "\u{FFFD}" }
        let back = at
        at += 2
        let second = try hexadecimal()
        guard (0xDC00...0xDFFF).contains(second) else {
            at = back
            return "\u{FFFD}"
        }
        return Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00)) ?? "\u{FFFD}"
    }

    private mutating func hexadecimal() throws -> UInt32 {
        guard at + 4 <= bytes.count else { throw fault() }
        let digits = String(decoding: bytes[at..<at + 4], as: UTF8.self)
        guard digits.utf8.count == 4, let value = UInt32(digits, radix: 16) else { throw fault() }
        at += 4
        return value
    }

    private mutating func number() throws -> Double {
        let start = at
        while let byte = peek(), "+-.eE0123456789".utf8.contains(byte) {
            at += 1
        }
        guard let value = Double(String(decoding: bytes[start..<at], as: UTF8.self)) else {
            at = start
            throw fault()
        }
        return value
    }

    private mutating func word(_ text: StaticString, _ value: Json) throws -> Json {
        let length = text.utf8CodeUnitCount
        let isHere = at + length <= bytes.count && (0..<length).allSatisfy { bytes[at + $0] == text.utf8Start[$0] }
        if !isHere { throw fault() }
        at += length
        return value
    }

    private func peek(_ ahead: Int = 0) -> UInt8? {
        at + ahead < bytes.count ? bytes[at + ahead] : nil
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        skipSpace()
        if peek() != byte { return false }
        at += 1
        return true
    }

    private mutating func skipSpace() {
        while let byte = peek(), byte == 0x20 || (0x09...0x0D).contains(byte) {
            at += 1
        }
    }

    private func fault() -> EdgeError {
        EdgeError("not JSON at byte \(at)")
    }
}
