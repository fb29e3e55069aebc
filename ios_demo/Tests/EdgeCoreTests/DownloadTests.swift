import XCTest

@testable import EdgeCore

/// Bundles from a server that is not trusted.
final class DownloadTests: XCTestCase {
    private static let address = "https://example.com/bundles/one"
    private var bundle = URL(fileURLWithPath: "/")
    private var folder = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        bundle = try makeBundle()
        folder = try Shared.temporaryFolder().appendingPathComponent("one")
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: bundle)
        try FileManager.default.removeItem(at: folder.deletingLastPathComponent())
    }

    func testABundleComesWholeAndNothingElseIsAskedFor() async throws {
        let shelf = Shelf(bundle)
        var last = (0, 1)
        _ = try await BundleDownload(address: Self.address + "/manifest.json", folder: folder, fetch: shelf).run {
            last = ($0, $1)
        }
        XCTAssertEqual(last.0, last.1)
        XCTAssertEqual(try EdgeBundle.open(folder).manifest, try BundleManifest.read(bundle))
        XCTAssertEqual(shelf.asked.map(\.name), ["manifest.json"] + (try BundleManifest.read(bundle).files.keys.sorted()))
    }

    func testEachAddressHasAFolderOfItsOwn() {
        XCTAssertEqual(BundleDownload.folderName(for: Self.address), "one-c3683787")
        for same in [Self.address + "/", " \(Self.address)/manifest.json\n"] {
            XCTAssertEqual(BundleDownload.folderName(for: same), "one-c3683787")
        }
        let far = "https://example.com/"
        let words = ["", "\u{6a21}\u{578b}", String(repeating: "a", count: 300), ".."]
        let others = ["https://example.org/bundles/one"] + words.map { far + $0 }
        let names = others.map(BundleDownload.folderName(for:)) + ["one-c3683787"]
        XCTAssertEqual(Set(names).count, names.count)
        for name in names {
            XCTAssertNotNil(name.range(of: "^[a-z]{1,40}-[0-9a-f]{8}$", options: .regularExpression), name)
        }
    }

    func testItGoesOnWhereItStopped() async throws {
        for knowsOffsets in [true, false] {
            let half = try Data(contentsOf: bundle.appendingPathComponent("tokenizer.json")).count / 2
            let cut = Shelf(bundle, most: half, knowsOffsets: knowsOffsets)
            await refused(.offline) { try await self.download(cut) }
            XCTAssertFalse(FileManager.default.fileExists(atPath: folder.path))
            let again = Shelf(bundle, knowsOffsets: knowsOffsets)
            try await download(again)
            _ = try EdgeBundle.open(folder)
            XCTAssertTrue(again.asked.contains { $0.name == "tokenizer.json" && $0.offset == half })
            XCTAssertFalse(again.asked.contains { $0.name == "conformance.jsonl" }, "it was there already")
            try FileManager.default.removeItem(at: folder)
        }
    }

    func testAFileThatIsNotTheManifestsIsNotKept() async throws {
        let lying = Shelf(bundle) { name, data in name == "routing.json" ? Data(data.reversed()) : data }
        await refused(.damaged) { try await self.download(lying) }
        XCTAssertFalse(FileManager.default.fileExists(atPath: folder.path))
        try await download(Shelf(bundle) { name, data in name == "routing.json" ? data + data : data })
        _ = try EdgeBundle.open(folder)  // what goes beyond a file's size is not kept
    }

    func testSizesThatNoPhoneHasRoomForAreRefusedBeforeAFileIsAskedFor() async throws {
        let huge = #"{"sha256":"\#(String(repeating: "0", count: 64))","size":281474976710656}"#
        let files = (0..<33_000).map { "\"m\($0)\":\(huge)" }.joined(separator: ",")
        let shelf = Shelf(bundle) { name, data in
            let text = String(decoding: data, as: UTF8.self)
            return name != "manifest.json" ? data : Data(text.replacingOccurrences(of: "\"files\":{", with: "\"files\":{\(files),").utf8)
        }
        await refused(.deviceFailed) { try await self.download(shelf) }
        XCTAssertEqual(shelf.asked.map(\.name), ["manifest.json"])
    }

    func testAddressesInTheClearAndNamesOutsideAreRefused() async throws {
        for address in ["http://example.com/b", "file:///etc", "", "example.com"] {
            XCTAssertThrowsError(try BundleDownload(address: address, folder: folder))
        }
        let outside = Shelf(bundle) { name, data in
            let text = String(decoding: data, as: UTF8.self)
            return name == "manifest.json" ? Data(text.replacingOccurrences(of: "routing.json", with: "../x").utf8) : data
        }
        await refused(.badField) { try await self.download(outside) }
    }

    private func download(_ shelf: Shelf) async throws {
        _ = try await BundleDownload(address: Self.address, folder: folder, fetch: shelf).run()
    }

    private func refused(_ kind: ErrorKind, _ step: () async throws -> Void) async {
        do {
            try await step()
            XCTFail("nothing was refused")
        } catch {
            XCTAssertEqual((error as? EdgeError)?.kind, kind, line(for: error))
        }
    }
}

/// A server of a folder's files that gives at most `most` bytes of each, and notes what it was asked.
private final class Shelf: Fetch, @unchecked Sendable {
    private(set) var asked: [(name: String, offset: Int)] = []
    private let folder: URL
    private let most: Int
    private let knowsOffsets: Bool
    private let change: (String, Data) -> Data

    init(
        _ folder: URL, most: Int = .max, knowsOffsets: Bool = true,
        change: @escaping (String, Data) -> Data = { $1 }
    ) {
        self.folder = folder
        self.most = most
        self.knowsOffsets = knowsOffsets
        self.change = change
    }

    func get(_ url: URL, offset: Int, onPiece: (Bool, Data) throws -> Void) async throws {
        let name = String(url.absoluteString.dropFirst("https://example.com/bundles/one/".count))
        asked.append((name, offset))
        let isRest = knowsOffsets && offset > 0
        let data = change(name, try Data(contentsOf: folder.appendingPathComponent(name)))
        let rest = Data(data.dropFirst(isRest ? offset : 0))
        let given = name == "manifest.json" ? rest.count : min(most, rest.count)
        for begin in stride(from: 0, to: given, by: 1000) {
            try onPiece(isRest, Data(rest[begin..<min(begin + 1000, given)]))
        }
        if given < rest.count { throw URLError(.networkConnectionLost) }
    }
}
