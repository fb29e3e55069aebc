/// One JSON object whose fields must have the types asked for; the first that has not is named.
///
/// Null is a value: only what ends in OrNil takes it, and a field's absence, for nil.
public struct JsonFields: Sendable {
    /// What a token id may be: what fits 32 bits.
    static let indices = 0...Int(Int32.max)

    public let members: [String: Json]
    private let path: String

    /// `value` as an object; `path` names it in errors.
    public init(_ value: Json, _ path: String = "") throws {
        guard let members = value.object else { throw Self.fault("\(path.isEmpty ? "file" : path): not an object") }
        self.members = members
        self.path = path
    }

    public var names: [String] { members.keys.sorted() }

    public func has(_ name: String) -> Bool { members[name] != nil }

    public func text(_ name: String) throws -> String { try need(members[name]?.string, name, "a text") }

    public func textOrNil(_ name: String) throws -> String? { isNil(name) ? nil : try text(name) }

    /// A text of at least one character.
    public func filled(_ name: String) throws -> String {
        let value = try text(name)
        return try need(value.isEmpty ? nil : value, name, "a text with something in it")
    }

    public func number(_ name: String) throws -> Double { try need(members[name]?.number, name, "a number") }

    public func numberOrNil(_ name: String) throws -> Double? { isNil(name) ? nil : try number(name) }

    /// A whole number within `bounds`.
    public func whole(_ name: String, _ bounds: ClosedRange<Int>) throws -> Int {
        let value = members[name]?.int.flatMap { bounds.contains($0) ? $0 : nil }
        return try need(value, name, "a whole number from \(bounds.lowerBound) to \(bounds.upperBound)")
    }

    /// A whole number from 1 to `most`.
    public func count(_ name: String, _ most: Int = Int(Int32.max)) throws -> Int { try whole(name, 1...most) }

    public func countOrNil(_ name: String, _ most: Int) throws -> Int? { isNil(name) ? nil : try count(name, most) }

    /// A whole number from 0 that fits 32 bits, as a token id is.
    public func index(_ name: String) throws -> Int { try whole(name, Self.indices) }

    public func flag(_ name: String) throws -> Bool { try need(members[name]?.bool, name, "true or false") }

    public func flagOrNil(_ name: String) throws -> Bool? { isNil(name) ? nil : try flag(name) }

    public func list(_ name: String) throws -> [Json] { try need(members[name]?.array, name, "a list") }

    public func tokenIds(_ name: String) throws -> [Int] {
        try need(Self.tokenIds(members[name]), name, "a list of token ids")
    }

    public func tokenIdLists(_ name: String) throws -> [[Int]] {
        try list(name).map { try need(Self.tokenIds($0), name, "a list of token id lists") }
    }

    public func fields(_ name: String) throws -> JsonFields { try JsonFields(members[name] ?? .null, label(name)) }

    /// Refuses a version above `newest`, before anything else of a document is looked at.
    func refuseNewer(_ newest: Int) throws {
        guard let version = members["version"]?.int, version > newest else { return }
        throw EdgeError("version \(version) is newer than \(newest)", .newer)
    }

    /// Refuses the absence of one of `names`.
    public func needs(_ names: String...) throws {
        if let name = names.first(where: { !has($0) }) { throw Self.fault("\(label(name)): not there") }
    }

    /// Refuses names outside `known`: a newer writer means something this reader would ignore.
    public func onlyKnown(_ known: String...) throws {
        if let name = names.first(where: { !known.contains($0) }) {
            throw Self.fault("\(label(name)): not known here")
        }
    }

    private static func tokenIds(_ value: Json?) -> [Int]? {
        guard let ids = value?.array?.map(\.int), ids.allSatisfy({ indices.contains($0 ?? -1) }) else { return nil }
        return ids.compactMap { $0 }
    }

    private func isNil(_ name: String) -> Bool { members[name]?.isNull ?? true }

    private func label(_ name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

    private func need<Value>(_ value: Value?, _ name: String, _ expected: String) throws -> Value {
        guard let value else { throw Self.fault("\(label(name)): not \(expected)") }
        return value
    }

    private static func fault(_ what: String) -> EdgeError {
        EdgeError(what.split(whereSeparator: \.isNewline).joined(separator: " "), .badField)
    }
}
