/// One JSON object whose fields must have the types asked for; the first that has not is named.
public struct JsonFields: Sendable {
    public let members: [String: Json]
    private let path: String

    /// `value` as an object; `path` names it in errors.
    public init(_ value: Json, _ path: String = "") throws {
        guard let members = value.object else { throw EdgeError("\(path.isEmpty ? "file" : path): not an object") }
        self.members = members
        self.path = path
    }

    public var names: [String] { members.keys.sorted() }

    /// Whether the field is there and not null.
    public func has(_ name: String) -> Bool { !(members[name] ?? .null).isNull }

    public func text(_ name: String) throws -> String { try need(members[name]?.string, name, "a text") }

    public func textOrNil(_ name: String) throws -> String? { has(name) ? try text(name) : nil }

    /// A text of at least one character.
    public func filled(_ name: String) throws -> String {
        let value = try text(name)
        return try need(value.isEmpty ? nil : value, name, "a text with something in it")
    }

    public func number(_ name: String) throws -> Double { try need(members[name]?.number, name, "a number") }

    public func numberOrNil(_ name: String) throws -> Double? { has(name) ? try number(name) : nil }

    public func whole(_ name: String) throws -> Int { try need(members[name]?.int, name, "a whole number") }

    public func positive(_ name: String) throws -> Int {
        try need(members[name]?.int.flatMap { $0 > 0 ? $0 : nil }, name, "a whole number above 0")
    }

    /// True or false; false where it is absent or null.
    public func flag(_ name: String) throws -> Bool {
        has(name) ? try need(members[name]?.bool, name, "true or false") : false
    }

    public func list(_ name: String) throws -> [Json] { try need(members[name]?.array, name, "a list") }

    public func tokenIds(_ name: String) throws -> [Int] {
        try need(Self.tokenIds(members[name]), name, "a list of token ids")
    }

    public func tokenIdLists(_ name: String) throws -> [[Int]] {
        try list(name).map { try need(Self.tokenIds($0), name, "a list of token id lists") }
    }

    public func fields(_ name: String) throws -> JsonFields { try JsonFields(members[name] ?? .null, label(name)) }

    /// Refuses names outside `known`: a newer writer means something this reader would ignore.
    public func onlyKnown(_ known: Set<String>) throws {
        if let name = names.first(where: { !known.contains($0) }) { throw EdgeError("\(label(name)): not known here") }
    }

    private static func tokenIds(_ value: Json?) -> [Int]? {
        guard let ids = value?.array?.map(\.int), ids.allSatisfy({ ($0 ?? -1) >= 0 }) else { return nil }
        return ids.compactMap { $0 }
    }

    private func label(_ name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

    private func need<Value>(_ value: Value?, _ name: String, _ expected: String) throws -> Value {
        guard let value else { throw EdgeError("\(label(name)): not \(expected)") }
        return value
    }
}
