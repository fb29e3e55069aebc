import Foundation

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

/// Gets files. Throws if one does not come.
public protocol Fetch: Sendable {
    /// Hands the file at `url` from byte `offset` on to `onPiece`, which is told whether it is that rest: a server that
    /// knows no offsets gives the file from its start.
    func get(_ url: URL, offset: Int, onPiece: (_ isRest: Bool, _ data: Data) throws -> Void) async throws
}

/// Fetches the bundle at an address, the folder that holds its manifest.json, into a folder, going on where an earlier
/// try stopped. Of the server nothing is trusted but the manifest's hashes: a file that it does not name is not asked
/// for, and one that differs is not kept. The bundle appears whole or not at all.
public struct BundleDownload: Sendable {
    private static let suffix = ".partial"
    private static let mostManifest = 1 << 24
    private static let mostWord = 40
    private static let hashDigits = 8
    private static let plain = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")

    private let base: URL
    private let folder: URL
    private let partial: URL
    private let fetch: any Fetch

    /// Throws ``EdgeError`` for an address that is not https (http only on this machine).
    public init(address: String, folder: URL, fetch: any Fetch = HttpFetch()) throws {
        guard let base = URL(string: Self.base(address)), CloudClient.isPrivate(base) else {
            throw EdgeError(
                "bad address: \(address). A bundle comes over https. Give the folder of its manifest.", .badInput)
        }
        self.base = base
        self.folder = folder
        self.fetch = fetch
        partial = folder.deletingLastPathComponent().appendingPathComponent(folder.lastPathComponent + Self.suffix)
    }

    /// A folder's name for the bundle at `address` and for no other's: its last word, and a hash of all of it.
    public static func folderName(for address: String) -> String {
        let base = base(address)
        let word = base.split(separator: "/").last?.filter(plain.contains).prefix(mostWord) ?? ""
        var hash = Sha256()
        hash.update(Data(base.utf8))
        return "\(word.isEmpty ? "bundle" : word)-\(hash.hex().prefix(hashDigits))"
    }

    private static func base(_ address: String) -> String {
        var trimmed = String(address.text.stripped())
        while trimmed.hasSuffix("/") { trimmed.removeLast() }
        if trimmed.hasSuffix("/" + BundleManifest.file) { trimmed.removeLast(BundleManifest.file.count + 1) }
        return trimmed
    }

    /// Returns the folder; ends when its task is cancelled. `onProgress` gets the bytes that are there, and all there
    /// are to be.
    ///
    /// Throws ``EdgeError``: offline, timedOut, stopped, damaged, deviceFailed (no room), or what the manifest's own
    /// reader refuses.
    public func run(onProgress: (Int, Int) -> Void = { _, _ in }) async throws -> URL {
        do {
            let manifest = try await manifest()
            let whole = claimedBytes(manifest.files.values.reduce(0) { $0 + Double($1.size) })
            var done = 0
            for (name, entry) in manifest.files.sorted(by: { $0.key < $1.key }) {
                let before = done
                try await file(name, entry) { onProgress(before + $0, whole) }
                done += entry.size
                onProgress(done, whole)
            }
            try? FileManager.default.removeItem(at: folder)
            try FileManager.default.moveItem(at: partial, to: folder)
            return folder
        } catch let error as URLError {
            try checkNotStopped()
            if error.code == .timedOut {
                throw EdgeError("download stopped: \(base). It does not answer. Go on later.", .timedOut)
            }
            let why = "It cannot be reached, or broke off. Check the address and the network, then go on"
            throw EdgeError("download stopped: \(base). \(why).", .offline)
        } catch {
            throw deviceFailed(error)
        }
    }

    /// The manifest as it is now; with another one than last time all else begins anew.
    private func manifest() async throws -> BundleManifest {
        var bytes = Data()
        try await get(BundleManifest.file, from: 0) { _, data in
            bytes.append(data)
            if bytes.count > Self.mostManifest { throw URLError(.dataLengthExceedsMaximum) }
        }
        let file = partial.appendingPathComponent(BundleManifest.file)
        if (try? Data(contentsOf: file)) != bytes {
            try? FileManager.default.removeItem(at: partial)
            try FileManager.default.createDirectory(at: partial, withIntermediateDirectories: true)
            try bytes.write(to: file)
        }
        let manifest = try BundleManifest.read(partial)
        let missing = claimedBytes(manifest.files.reduce(0) { $0 + Double($1.value.size - present($1.key)) })
        let free = try FileManager.default.attributesOfFileSystem(forPath: partial.path)[.systemFreeSize] as? NSNumber
        if let free, missing > free.intValue {
            let why = "It needs \(missing / 1_000_000 + 1) MB more, \(free.intValue / 1_000_000) MB are free"
            throw EdgeError("no room: \(base). \(why). Delete something.", .deviceFailed)
        }
        return manifest
    }

    private func present(_ name: String) -> Int {
        let file = partial.appendingPathComponent(name)
        return max(Self.size(file), Self.size(Self.part(file)))
    }

    /// One file: what is missing of it is fetched and all of it hashed before it gets its name.
    private func file(_ name: String, _ entry: FileEntry, onProgress: (Int) -> Void) async throws {
        let file = partial.appendingPathComponent(name)
        if Self.size(file) == entry.size, FileManager.default.fileExists(atPath: file.path) { return }
        let part = Self.part(file)
        let parent = part.deletingLastPathComponent()
        try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
        if Self.size(part) > entry.size { try FileManager.default.removeItem(at: part) }
        if !FileManager.default.fileExists(atPath: part.path) { try Data().write(to: part) }
        if Self.size(part) < entry.size { try await append(name, part, entry.size, onProgress) }
        if try Sha256.hex(ofFile: part) != entry.sha256 {
            try FileManager.default.removeItem(at: part)
            let why = "\(name) is not the file that the manifest names (sha256 differs)"
            throw EdgeError("damaged download: \(base). \(why). Try again, or do not use it.", .damaged)
        }
        try FileManager.default.moveItem(at: part, to: file)
    }

    private func append(_ name: String, _ part: URL, _ size: Int, _ onProgress: (Int) -> Void) async throws {
        let out = try FileHandle(forWritingTo: part)
        defer { try? out.close() }
        var there = Int(try out.seekToEnd())
        var isFirst = true
        try await get(name, from: there) { isRest, data in
            if isFirst, !isRest {
                try out.truncate(atOffset: 0)
                there = 0
            }
            isFirst = false
            try checkNotStopped()
            try out.write(contentsOf: data.prefix(size - there))
            there += min(data.count, size - there)
            onProgress(there)
        }
        if there < size { throw URLError(.networkConnectionLost) }
    }

    private func get(_ name: String, from offset: Int, _ onPiece: (Bool, Data) throws -> Void) async throws {
        let url = name.split(separator: "/").reduce(base) { $0.appendingPathComponent(String($1)) }
        try await fetch.get(url, offset: offset, onPiece: onPiece)
    }

    private static func part(_ file: URL) -> URL {
        file.deletingLastPathComponent().appendingPathComponent(file.lastPathComponent + suffix)
    }

    private static func size(_ file: URL) -> Int {
        let attributes = try? FileManager.default.attributesOfItem(atPath: file.path)
        return (attributes?[.size] as? NSNumber)?.intValue ?? 0
    }
}

/// ``Fetch`` over the platform's own HTTP client; redirects are followed, but never to plain http.
public struct HttpFetch: Fetch {
    private let timeout: TimeInterval

    public init(timeout: TimeInterval = 30) {
        self.timeout = timeout
    }

    public func get(_ url: URL, offset: Int, onPiece: (Bool, Data) throws -> Void) async throws {
        var request = URLRequest(url: url)
        request.setValue("identity", forHTTPHeaderField: "Accept-Encoding")
        if offset > 0 { request.setValue("bytes=\(offset)-", forHTTPHeaderField: "Range") }
        let day = 86_400.0
        let status = try await HttpPieces(request, timeout: timeout, whole: day, follows: true).forEach {
            status, data in
            if status != 200, status != 206 { throw URLError(.badServerResponse) }
            try onPiece(status == 206, data)
        }
        if status != 200, status != 206 { throw URLError(.badServerResponse) }
    }
}
