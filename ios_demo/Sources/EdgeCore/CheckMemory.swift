import Foundation

/// Which bundles were found whole, so that a large one is hashed once and not at every start.
///
/// Kept in `file`, in the app's own storage: for each folder the manifest's hash with the size and time of change of
/// every file. A file changed in the last seconds is not vouched for: it might change again within its time's unit.
public struct CheckMemory: Sendable {
    private static let settled: TimeInterval = 2
    private let file: URL

    public init(_ file: URL) {
        self.file = file
    }

    /// Whether the bundle in `folder` was found whole as it is now.
    func knows(_ folder: URL, _ manifest: BundleManifest) -> Bool {
        guard let state = try? state(folder, manifest) else { return false }
        return states()[folder.path]?.string == state
    }

    /// Notes that the bundle in `folder` is whole. A memory that cannot be written costs time, nothing else.
    func remember(_ folder: URL, _ manifest: BundleManifest) {
        let newest = manifest.files.keys.compactMap { try? Self.facts(folder, $0).changed }.max() ?? .distantPast
        guard newest.timeIntervalSinceNow < -Self.settled, let state = try? state(folder, manifest) else { return }
        let text = Json.object(states().merging([folder.path: .string(state)]) { $1 }).write()
        try? Data(text.utf8).write(to: file, options: .atomic)
    }

    private func states() -> [String: Json] {
        (try? Json.read(file))?.object ?? [:]
    }

    private func state(_ folder: URL, _ manifest: BundleManifest) throws -> String {
        var hash = Sha256()
        hash.update(Data(manifest.sha256.utf8))
        for name in manifest.files.keys.sorted() {
            let (size, changed) = try Self.facts(folder, name)
            hash.update(Data("\0\(name)\0\(size)\0\(changed.timeIntervalSinceReferenceDate)".utf8))
        }
        return hash.hex()
    }

    private static func facts(_ folder: URL, _ name: String) throws -> (size: Int, changed: Date) {
        let found = try FileManager.default.attributesOfItem(atPath: folder.appendingPathComponent(name).path)
        return ((found[.size] as? NSNumber)?.intValue ?? -1, found[.modificationDate] as? Date ?? .distantFuture)
    }
}
