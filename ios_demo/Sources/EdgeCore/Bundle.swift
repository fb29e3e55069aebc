import Foundation

/// An opened bundle: every file was the one its manifest names when it was opened.
///
/// Called EdgeBundle in Swift, where Foundation has a `Bundle` of its own.
public struct EdgeBundle: Sendable {
    public let folder: URL
    public let manifest: BundleManifest
    public let tokenizer: Tokenizer
    public let routing: RoutingSpec
    public let vocabulary: Vocabulary

    private static let routingFile = "routing.json"
    private static let tokenizerFile = "tokenizer.json"
    /// What Finder and Explorer leave in folders that they show; nothing reads it, so it does no harm.
    private static let leftBySystems: Set<String> = [".DS_Store", "Thumbs.db", "desktop.ini"]

    /// The model file (or package folder) for the target's runtime.
    public var artifact: URL { folder.appendingPathComponent(manifest.artifact) }

    /// Token ids of the rendered `prompt`, ready for prefill.
    public func encode(_ prompt: String) -> [Int] {
        tokenizer.encode(routing.parts(prompt), delimiters: routing.delimiters)
    }

    /// The recorded cases.
    public func conformance() throws -> [ConformanceCase] {
        try ConformanceCase.readAll(folder.appendingPathComponent(ConformanceCase.file))
    }

    /// Opens the bundle in `folder`, every size and hash checked first.
    ///
    /// With a `memory` a bundle that was whole, and whose files have the same sizes and times, is not hashed again.
    /// Throws ``EdgeError`` for anything that is not a whole, unchanged bundle this version can read.
    public static func open(_ folder: URL, memory: CheckMemory? = nil) throws -> EdgeBundle {
        let manifest = try BundleManifest.read(folder)
        let faults = try self.faults(folder, manifest, memory)
        if !faults.isEmpty {
            throw EdgeError(
                "damaged bundle: \(folder.path). \(faults.joined(separator: "; ")). Copy it again.", .damaged)
        }
        let routing = try RoutingSpec.load(folder.appendingPathComponent(routingFile))
        let size = manifest.model.vocabSize
        if let id = (routing.marker.tokenIds.joined() + routing.stopTokenIds).first(where: { $0 >= size }) {
            let why = "Token \(id), but the model has \(size)"
            throw EdgeError("bad \(routingFile): \(folder.path). \(why). Export it again.", .badField)
        }
        let url = folder.appendingPathComponent(tokenizerFile)
        do {
            let file = try TokenizerFile(url)
            try file.fits(size)
            return EdgeBundle(
                folder: folder, manifest: manifest, tokenizer: try Tokenizer(file), routing: routing,
                vocabulary: Vocabulary(file, spec: routing))
        } catch {
            throw EdgeError(
                "unusable tokenizer: \(url.path). \(line(for: error)). Export the bundle again.", ErrorKind.of(error))
        }
    }

    /// Every way in which `folder` differs from its manifest; empty if it does not.
    private static func faults(
        _ folder: URL, _ manifest: BundleManifest, _ memory: CheckMemory?
    ) throws -> [String] {
        let names = manifest.files.keys
        let entries = manifest.files.sorted { $0.key < $1.key }
        var changed = try entries.compactMap { try shapeFault(folder, $0.key, $0.value) }
        if changed.isEmpty, memory?.knows(folder, manifest) != true {
            changed = try entries.compactMap { try hashFault(folder, $0.key, $0.value) }
            if changed.isEmpty { memory?.remember(folder, manifest) }
        }
        let extra = present(folder).subtracting(names).subtracting([BundleManifest.file]).sorted()
        let needed = [routingFile, tokenizerFile, ConformanceCase.file].filter { !names.contains($0) }
        let hasArtifact = names.contains { $0 == manifest.artifact || $0.hasPrefix(manifest.artifact + "/") }
        let lacking = needed + (hasArtifact ? [] : [manifest.artifact])
        return changed + extra.map { "\($0) is not in the manifest" } + lacking.map { "the manifest lacks \($0)" }
    }

    private static func hashFault(_ folder: URL, _ name: String, _ entry: FileEntry) throws -> String? {
        let hash = try Sha256.hex(ofFile: folder.appendingPathComponent(name))
        return hash == entry.sha256 ? nil : "\(name) has changed (sha256 differs)"
    }

    /// What is wrong with a file before its content is looked at.
    private static func shapeFault(_ folder: URL, _ name: String, _ entry: FileEntry) throws -> String? {
        var url = folder
        for part in name.split(separator: "/") {
            url.appendPathComponent(String(part))
            if kind(url) == .typeSymbolicLink { return "\(name) is a link" }
        }
        guard kind(url) == .typeRegular else { return "\(name) is missing" }
        let size = (try FileManager.default.attributesOfItem(atPath: url.path)[.size] as? NSNumber)?.intValue ?? -1
        return size == entry.size ? nil : "\(name) has \(size) bytes instead of \(entry.size)"
    }

    /// What stands at `url` itself, a link not followed; nil if nothing does.
    private static func kind(_ url: URL) -> FileAttributeType? {
        (try? FileManager.default.attributesOfItem(atPath: url.path))?[.type] as? FileAttributeType
    }

    /// Relative paths of everything in `folder` that is no folder itself.
    private static func present(_ folder: URL) -> Set<String> {
        let paths = (try? FileManager.default.subpathsOfDirectory(atPath: folder.path)) ?? []
        return Set(
            paths.filter { path in
                let found = kind(folder.appendingPathComponent(path))
                let isLeft = leftBySystems.contains((path as NSString).lastPathComponent) && found == .typeRegular
                return found != .typeDirectory && !isLeft
            })
    }
}
