import Foundation

/// One file's content, pinned.
public struct FileEntry: Sendable, Equatable {
    public let sha256: String
    public let size: Int

    /// Files and models are smaller than this.
    static let largest = 1 << 48
    private static let digits: Set<Character> = Set("0123456789abcdef")

    init(_ fields: JsonFields, _ name: String) throws {
        sha256 = try fields.text("sha256")
        size = try fields.whole("size", 0...Self.largest)
        if sha256.utf8.count != 64 || !Self.digits.isSuperset(of: sha256) {
            throw EdgeError("files.\(name).sha256: not 64 hexadecimal digits", .badField)
        }
    }
}

/// A size that a stranger's numbers come to, which 64 bits may not hold: there it is more than any device has.
func claimedBytes(_ size: Double) -> Int { Int(min(size, 1e18)) }

/// What a runtime must know of the model, and what it needs of memory; bundles made early lack the latter.
public struct ModelFacts: Sendable, Equatable {
    public let vocabSize: Int
    public let layers: Int
    public let hiddenSize: Int
    public let parameters: Int
    public let contextLength: Int
    public let prefillChunk: Int
    public let intermediateSize: Int?
    public let attentionHeads: Int?
    public let keyValueHeads: Int?
    public let headDim: Int?

    private static let width = 1 << 24
    private static let count = 1 << 16

    init(_ fields: JsonFields) throws {
        vocabSize = try fields.count("vocab_size", Self.width)
        layers = try fields.count("layers", Self.count)
        hiddenSize = try fields.count("hidden_size", Self.width)
        parameters = try fields.whole("parameters", 1...FileEntry.largest)
        contextLength = try fields.count("context_length", Self.width)
        prefillChunk = try fields.count("prefill_chunk", Self.width)
        intermediateSize = try fields.countOrNil("intermediate_size", Self.width)
        attentionHeads = try fields.countOrNil("attention_heads", Self.count)
        keyValueHeads = try fields.countOrNil("key_value_heads", Self.count)
        headDim = try fields.countOrNil("head_dim", Self.width)
        _ = try fields.flagOrNil("tied_embeddings")
    }
}

/// A runtime and its version; in a manifest `oldest` is the oldest one that runs the artifact, nil if it is not known.
public struct RuntimeFacts: Sendable, Equatable {
    public let name: String
    public let version: String
    public let oldest: String?

    public init(name: String, version: String, oldest: String? = nil) {
        self.name = name
        self.version = version
        self.oldest = oldest
    }

    /// Refuses `running`, whose version lies before `oldest` in its first two numbers; one that does not tell is taken.
    public func check(_ running: RuntimeFacts) throws {
        guard let oldest, let needed = Self.numbers(oldest), let has = Self.numbers(running.version), has < needed
        else { return }
        let why = "It has \(running.name) \(running.version), the bundle needs \(oldest) or newer"
        throw EdgeError("runtime too old: this app. \(why). Update the app.", .unsupported)
    }

    private static func numbers(_ version: String) -> (Int, Int)? {
        let parts = version.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
        let found = parts.prefix(2).map { Int($0.prefix { "0123456789".contains($0) }.prefix(6)) }
        guard let first = found.first, let major = first else { return nil }
        return (major, found.count > 1 ? found[1] ?? 0 : 0)
    }
}

/// manifest.json: what a bundle is, what it was made from, and the hash of every file in it.
public struct BundleManifest: Sendable, Equatable {
    public static let file = "manifest.json"
    private static let format = "edgekit-bundle"
    private static let knownVersion = 1
    private static let targets: Set<String> = ["onnx", "executorch", "coreml"]

    public let target: String
    public let artifact: String
    public let precision: String
    public let recipeName: String
    /// Bytes of a number in its caches of keys and values.
    public let cachedBytes: Int
    public let model: ModelFacts
    public let runtime: RuntimeFacts
    public let files: [String: FileEntry]
    /// The manifest file's own hash.
    public let sha256: String

    /// Reads a bundle's manifest. Throws ``EdgeError``: absent, newer, or wrong.
    public static func read(_ folder: URL) throws -> BundleManifest {
        let url = folder.appendingPathComponent(file)
        guard FileManager.default.fileExists(atPath: url.path) else {
            throw EdgeError("not a bundle: \(folder.path). It has no \(file). Check the path.", .absent)
        }
        do {
            return try BundleManifest(Json.read(url), sha256: Sha256.hex(ofFile: url))
        } catch {
            let why = line(for: error)
            let message =
                switch ErrorKind.of(error) {
                case .wrongFormat: "not a bundle: \(folder.path). In \(file) \(why). Check the path."
                case .newer: "newer bundle: \(folder.path). Its \(why). Update the app."
                case .notJson, .damaged: "unreadable manifest: \(url.path). \(why)"
                default: "bad manifest: \(url.path). \(why). Export the bundle again."
                }
            throw EdgeError(message, ErrorKind.of(error))
        }
    }

    private init(_ value: Json, sha256: String) throws {
        guard value["format"].string == Self.format else { throw EdgeError("format: not \(Self.format)", .wrongFormat) }
        let fields = try JsonFields(value)
        try fields.refuseNewer(Self.knownVersion)
        _ = try fields.whole("version", 1...Self.knownVersion)
        target = try fields.text("target")
        if !Self.targets.contains(target) { throw EdgeError("target: \(target) is not known here", .badField) }
        artifact = try fields.text("artifact")
        precision = try fields.text("precision")
        let recipe = try fields.fields("recipe").members
        recipeName = recipe["name"]?.string ?? ""
        let hasInt8Cache = recipe["quantize"]?.object?["cache"]?.string == "int8"
        cachedBytes = hasInt8Cache ? 1 : recipe["compute"]?.string == "float16" ? 2 : 4
        model = try ModelFacts(fields.fields("model"))
        let runtime = try fields.fields("runtime")
        self.runtime = RuntimeFacts(
            name: try runtime.text("name"), version: try runtime.text("version"),
            oldest: try runtime.textOrNil("oldest"))
        let provenance = try fields.fields("provenance")
        for name in provenance.names { _ = try provenance.text(name) }
        let entries = try fields.fields("files")
        var files: [String: FileEntry] = [:]
        for name in entries.names {
            files[name] = try FileEntry(entries.fields(name), name)
        }
        self.files = files
        self.sha256 = sha256
        if let outside = (entries.names + [artifact]).first(where: { !Self.isInside($0) }) {
            throw EdgeError("it names files outside the bundle: \(Json.string(outside).write())", .badField)
        }
    }

    /// True for a plain relative path that stays in its folder, written the one normal way.
    public static func isInside(_ name: String) -> Bool {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        let isPlain = parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
        return isPlain && !name.contains("\\") && !name.contains("\0") && !parts[0].contains(":")
    }
}
