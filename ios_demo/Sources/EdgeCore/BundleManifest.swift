import Foundation

/// One file's content, pinned.
public struct FileEntry: Sendable, Equatable {
    public let sha256: String
    public let size: Int
}

/// What a runtime must know of the model.
public struct ModelFacts: Sendable, Equatable {
    public let vocabSize: Int
    public let contextLength: Int
    public let prefillChunk: Int
    public let parameters: Int
    /// Bundles made before these were recorded lack them.
    public let keyValueHeads: Int?
    public let headDim: Int?
}

/// A runtime and its version.
public struct RuntimeFacts: Sendable, Equatable {
    public let name: String
    public let version: String

    public init(name: String, version: String) {
        self.name = name
        self.version = version
    }
}

/// manifest.json: what a bundle is, what it was made from, and the hash of every file in it.
public struct BundleManifest: Sendable, Equatable {
    public static let file = "manifest.json"
    private static let format = "edgekit-bundle"
    private static let knownVersion = 1
    private static let targets: Set<String> = ["onnx", "executorch", "coreml"]
    private static let digits: Set<Character> = Set("0123456789abcdef")

    public let target: String
    public let artifact: String
    public let precision: String
    public let recipeName: String
    public let model: ModelFacts
    public let runtime: RuntimeFacts
    public let files: [String: FileEntry]
    /// The manifest file's own hash.
    public let sha256: String

    /// Reads a bundle's manifest. Throws ``EdgeError``: absent, newer, or wrong.
    public static func read(_ folder: URL) throws -> BundleManifest {
        let url = folder.appendingPathComponent(file)
        guard FileManager.default.fileExists(atPath: url.path) else {
            throw EdgeError("not a bundle: \(folder.path). It has no \(file). Check the path.")
        }
        do {
            let fields = try JsonFields(Json.read(url))
            guard fields.members["format"]?.string == format else { throw EdgeError("it is not an \(format)") }
            let version = try fields.whole("version")
            if version > knownVersion {
                throw EdgeError("format \(version) is newer than \(knownVersion), update the app")
            }
            return try BundleManifest(fields, sha256: Sha256.hex(ofFile: url))
        } catch {
            throw EdgeError("bad manifest: \(url.path). \(line(for: error)). Export the bundle again.")
        }
    }

    private init(_ fields: JsonFields, sha256: String) throws {
        target = try fields.text("target")
        if !Self.targets.contains(target) { throw EdgeError("target: \(target) is not known here") }
        artifact = try fields.text("artifact")
        precision = try fields.text("precision")
        recipeName = try fields.fields("recipe").textOrNil("name") ?? ""
        let facts = try fields.fields("model")
        model = ModelFacts(
            vocabSize: try facts.positive("vocab_size"), contextLength: try facts.positive("context_length"),
            prefillChunk: try facts.positive("prefill_chunk"), parameters: try facts.positive("parameters"),
            keyValueHeads: facts.has("key_value_heads") ? try facts.positive("key_value_heads") : nil,
            headDim: facts.has("head_dim") ? try facts.positive("head_dim") : nil)
        let runtime = try fields.fields("runtime")
        self.runtime = RuntimeFacts(name: try runtime.text("name"), version: try runtime.text("version"))
        let entries = try fields.fields("files")
        var files: [String: FileEntry] = [:]
        for name in entries.names {
            files[name] = try Self.entry(entries.fields(name), name)
        }
        self.files = files
        self.sha256 = sha256
        if let outside = (entries.names + [artifact]).first(where: { !Self.isInside($0) }) {
            throw EdgeError("it names files outside the bundle: '\(outside)'")
        }
    }

    private static func entry(_ fields: JsonFields, _ name: String) throws -> FileEntry {
        let entry = FileEntry(sha256: try fields.text("sha256"), size: try fields.whole("size"))
        let isHash = entry.sha256.count == 64 && digits.isSuperset(of: entry.sha256)
        if !isHash || entry.size < 0 { throw EdgeError("files.\(name): bad hash or size") }
        return entry
    }

    /// True for a plain relative path that stays in its folder, written the one normal way.
    public static func isInside(_ name: String) -> Bool {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        let isPlain = parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
        return isPlain && !name.contains("\\") && !name.contains("\0") && !parts[0].contains(":")
    }
}
