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

    /// A whole number (1.0 is one); nil for fractions and what a double cannot hold exactly.
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

    /// The one value that `data` holds. Throws ``EdgeError`` (notJson), see ``JsonReader``.
    public static func parse(_ data: Data) throws -> Json {
        try JsonReader.read(data) { try $0.value() }
    }

    /// Reads and parses the file at `url`.
    public static func read(_ url: URL) throws -> Json {
        try parse(FileLimits.read(url, upTo: FileLimits.document))
    }
}
