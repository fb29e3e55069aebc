import XCTest

@testable import EdgeCore

/// Opening and refusing bundles. The bundle is made of the shipped tokenizer and a stand-in artifact.
final class BundleTests: XCTestCase {
    private static let weights = "model.mlpackage/Data/weight.bin"
    private var folder = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        folder = try makeBundle()
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: folder)
    }

    func testAWholeBundleOpensAndEncodes() throws {
        let bundle = try EdgeBundle.open(folder)
        XCTAssertEqual(bundle.encode("3 7 -> 10"), [647, 449, 453, 652, 456, 10])
        XCTAssertEqual(bundle.manifest.sha256.count, 64)
        XCTAssertEqual(try bundle.conformance().map(\.id), ["a"])
    }

    /// The bundles that `make demo` leaves; without it there are none to open.
    func testRealBundlesOpenAndTheirPromptsHaveTheRecordedIds() throws {
        let demo = Shared.repository.appendingPathComponent("out/demo")
        let folders = ["onnx", "executorch", "coreml"].map { demo.appendingPathComponent($0) }
        let made = folders.filter { FileManager.default.fileExists(atPath: $0.path) }
        try XCTSkipIf(made.isEmpty, "no bundles in out/demo: make demo exports them")
        for folder in made {
            let bundle = try EdgeBundle.open(folder)
            let cases = try bundle.conformance()
            XCTAssertFalse(cases.isEmpty)
            XCTAssertEqual(cases.map { bundle.encode($0.prompt) }, cases.map(\.promptTokenIds), folder.path)
        }
    }

    func testAChangedByteIsNamed() throws {
        var data = try Data(contentsOf: folder.appendingPathComponent(Self.weights))
        data[0] ^= 1
        try data.write(to: folder.appendingPathComponent(Self.weights))
        refused("weight.bin has changed")
    }

    func testAMissingAnExtraAndALinkedFileAreNamed() throws {
        let extra = folder.appendingPathComponent("extra.txt")
        try Data("x".utf8).write(to: extra)
        refused("extra.txt is not in the manifest")
        try FileManager.default.removeItem(at: extra)
        let weights = folder.appendingPathComponent(Self.weights)
        try FileManager.default.removeItem(at: weights)
        refused("weight.bin is missing")
        try FileManager.default.createSymbolicLink(
            at: weights, withDestinationURL: folder.appendingPathComponent("routing.json"))
        refused("weight.bin is a link")
    }

    func testWhatFinderAndExplorerLeaveDoesNoHarm() throws {
        for name in [".DS_Store", "Thumbs.db", "model.mlpackage/.DS_Store"] {
            try Data("x".utf8).write(to: folder.appendingPathComponent(name))
        }
        _ = try EdgeBundle.open(folder)
        try Data("x".utf8).write(to: folder.appendingPathComponent("._routing.json"))
        refused("._routing.json is not in the manifest")
    }

    func testAWholeBundleIsHashedOnceUntilAFileChanges() throws {
        let store = folder.deletingLastPathComponent().appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: store) }
        let memory = CheckMemory(store)
        let weights = folder.appendingPathComponent(Self.weights)
        let long = Date(timeIntervalSinceNow: -60)
        func write(_ bytes: [UInt8], at time: Date) throws {
            try Data(bytes).write(to: weights)
            try FileManager.default.setAttributes([.modificationDate: time], ofItemAtPath: weights.path)
        }
        for path in try FileManager.default.subpathsOfDirectory(atPath: folder.path) {
            let file = folder.appendingPathComponent(path).path
            try FileManager.default.setAttributes([.modificationDate: long], ofItemAtPath: file)
        }
        _ = try EdgeBundle.open(folder, memory: memory)
        // Other bytes under the same size and time: what a look at these cannot see, and a hash would.
        try write([1, 2, 4], at: long)
        _ = try EdgeBundle.open(folder, memory: memory)
        refused("has changed")
        try write([1, 2, 4], at: long + 1)
        XCTAssertThrowsError(try EdgeBundle.open(folder, memory: memory))
        try write([1, 2, 3], at: Date())
        _ = try EdgeBundle.open(folder, memory: memory)  // just written: whole, but not vouched for
        try write([1, 2, 4], at: Date())
        XCTAssertThrowsError(try EdgeBundle.open(folder, memory: memory))
    }

    func testWhatItNeedsOfMemoryIsSaidBeforeItIsLoaded() throws {
        let need = MemoryNeed(try BundleManifest.read(folder))
        XCTAssertEqual([need.artifactBytes, need.cacheBytes], [3, 2 * 1 * 8 * 128 * 4])
        XCTAssertNoThrow(try need.check(need.artifactBytes + need.cacheBytes))
        XCTAssertThrowsError(try need.check(8_000)) { error in
            XCTAssertTrue(line(for: error).contains("needs 1 MB (1 of weights, 1 for 128 tokens), 1 MB are free"))
        }
        for (recipe, bytes) in [(#""compute":"float16""#, 2), (#""quantize":{"cache":"int8"}"#, 1)] {
            try manifest { $0.replacingOccurrences(of: #""name":"test""#, with: recipe) }
            XCTAssertEqual(MemoryNeed(try BundleManifest.read(folder)).cacheBytes, 2 * 1 * 8 * 128 * bytes)
        }
    }

    func testSizesBeyondWhat64BitsHoldAreMoreThanAnyDeviceHas() throws {
        let claims = #""context_length":16777216,"layers":65536,"key_value_heads":65536,"head_dim":16777216"#
        try manifest {
            $0.replacingOccurrences(of: #""context_length":128"#, with: claims)
                .replacingOccurrences(of: #""layers":1,"#, with: "")
        }
        let need = MemoryNeed(try BundleManifest.read(folder))
        XCTAssertThrowsError(try need.check(1 << 40)) { XCTAssertTrue(line(for: $0).contains("too large")) }
    }

    func testARuntimeOlderThanItsOldestIsRefusedBeforeItLoads() throws {
        let needs = RuntimeFacts(name: "onnxruntime", version: "1.31.1", oldest: "1.23")
        for version in ["1.23.0", "1.24.2", "2.0", "as linked"] {
            XCTAssertNoThrow(try needs.check(RuntimeFacts(name: "onnxruntime", version: version)))
        }
        for version in ["1.9.3", "1.22", "0.9"] {
            XCTAssertThrowsError(try needs.check(RuntimeFacts(name: "onnxruntime", version: version))) { error in
                XCTAssertEqual((error as? EdgeError)?.kind, .unsupported)
                XCTAssertTrue(line(for: error).contains("\(version), the bundle needs 1.23 or newer"))
            }
        }
        let early = RuntimeFacts(name: "onnxruntime", version: "1.31.1")
        XCTAssertNoThrow(try early.check(RuntimeFacts(name: "onnxruntime", version: "1.2")))
    }

    func testANewerBundleAndNamesOutsideAreRefused() throws {
        try manifest { $0.replacingOccurrences(of: "\"version\":1", with: "\"version\":2") }
        refused("Update the app")
        for name in ["../secret", "/etc/passwd", "a/../b", "a//b", "./a", "C:/a", "a\\\\b"] {
            try manifest { $0.replacingOccurrences(of: "routing.json", with: name) }
            refused("outside the bundle")
        }
        XCTAssertTrue(BundleManifest.isInside("model.mlpackage/Data/weight.bin"))
    }

    func testHashesAreThoseOfTheStandard() throws {
        let vectors = [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
            ),
        ]
        for (text, hash) in vectors {
            var sha = Sha256()
            sha.update(Data(text.utf8))
            XCTAssertEqual(sha.hex(), hash)
        }
    }

    private func refused(_ why: String) {
        XCTAssertThrowsError(try EdgeBundle.open(folder)) { error in
            XCTAssertTrue(line(for: error).contains(why), line(for: error))
        }
    }

    private func manifest(_ change: (String) -> String) throws {
        try writeManifest(folder)
        let url = folder.appendingPathComponent(BundleManifest.file)
        try change(String(contentsOf: url, encoding: .utf8)).write(to: url, atomically: true, encoding: .utf8)
    }
}

/// Writes a small whole bundle into a new folder.
func makeBundle() throws -> URL {
    let folder = try Shared.temporaryFolder()
    let package = folder.appendingPathComponent("model.mlpackage/Data")
    try FileManager.default.createDirectory(at: package, withIntermediateDirectories: true)
    try Data([1, 2, 3]).write(to: package.appendingPathComponent("weight.bin"))
    let shipped = Shared.repository.appendingPathComponent("edgekit/policy/base/tokenizer.json")
    try FileManager.default.copyItem(at: shipped, to: folder.appendingPathComponent("tokenizer.json"))
    let routing = try Shared.json("logits_cases.json").members["routing"]?.write() ?? ""
    try routing.write(to: folder.appendingPathComponent("routing.json"), atomically: true, encoding: .utf8)
    let decision = #"{"token_ids":[658,450,659],"route":"local","reason":"answer","text":"t","answer":"4","marker_margin":null}"#
    let head = #"{"id":"a","prompt":"3 7 -> 10","prompt_token_ids":[1],"marker_bias":0.0"#
    let cases = head + ",\"reference\":\(decision),\"quantized_reference\":\(decision)}"
    try (cases + "\n").write(to: folder.appendingPathComponent("conformance.jsonl"), atomically: true, encoding: .utf8)
    try writeManifest(folder)
    return folder
}

private func writeManifest(_ folder: URL) throws {
    var files: [String: Json] = [:]
    for name in ["routing.json", "tokenizer.json", "conformance.jsonl", "model.mlpackage/Data/weight.bin"] {
        let url = folder.appendingPathComponent(name)
        let size = Double(try Data(contentsOf: url).count)
        files[name] = .object(["sha256": .string(try Sha256.hex(ofFile: url)), "size": .number(size)])
    }
    let facts: [String: Json] = [
        "vocab_size": .number(672), "layers": .number(1), "hidden_size": .number(8), "parameters": .number(9),
        "context_length": .number(128), "prefill_chunk": .number(32),
    ]
    let manifest = Json.object([
        "format": .string("edgekit-bundle"), "version": .number(1), "target": .string("coreml"),
        "artifact": .string("model.mlpackage"), "precision": .string("int4"),
        "recipe": .object(["name": .string("test")]), "model": .object(facts), "files": .object(files),
        "provenance": .object([:]),
        "runtime": .object(["name": .string("Core ML"), "version": .string("1")]),
    ])
    let url = folder.appendingPathComponent(BundleManifest.file)
    try manifest.write().write(to: url, atomically: true, encoding: .utf8)
}
