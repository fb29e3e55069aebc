import EdgeCore
import EdgeCoreML
import Foundation

// Linked only if their products were added to the app: README.md, "The other two runtimes".
#if canImport(EdgeONNX)
    import EdgeONNX
#endif
#if canImport(EdgeExecuTorch)
    import EdgeExecuTorch
#endif

/// Where bundles lie, and the runtime that executes each one's artifact.
enum ModelLoader {
    /// Bundles in the app's folder Bundles (built in) and in Documents/Bundles (copied with the Files app).
    static func folders() -> [URL] {
        let builtIn = Bundle.main.resourceURL?.appending(path: "Bundles")
        let copied = URL.documentsDirectory.appending(path: "Bundles")
        return [builtIn, copied].compactMap { $0 }.flatMap(bundles)
    }

    /// Where the bundle at `address` is kept.
    static func folder(for address: String) -> URL {
        URL.documentsDirectory.appending(path: "Bundles").appending(path: BundleDownload.folderName(for: address))
    }

    private static func bundles(in folder: URL) -> [URL] {
        let found = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        return (found ?? [])
            .filter { !$0.lastPathComponent.hasSuffix(".partial") }
            .filter { FileManager.default.fileExists(atPath: $0.appending(path: BundleManifest.file).path) }
            .sorted { $0.lastPathComponent < $1.lastPathComponent }
    }

    /// Loads the artifact in the runtime its target names. Throws ``EdgeError`` if this app was built without it.
    static func open(_ bundle: EdgeBundle) async throws -> sending any StepModel {
        switch bundle.manifest.target {
        case "coreml":
            return try await CoreMLStepModel.open(bundle)
        case "onnx":
            #if canImport(EdgeONNX)
                return try OnnxStepModel.open(bundle)
            #else
                throw missing("EdgeONNX")
            #endif
        default:
            #if canImport(EdgeExecuTorch)
                return try ExecuTorchStepModel.open(bundle)
            #else
                throw missing("EdgeExecuTorch")
            #endif
        }
    }

    private static func missing(_ runtime: String) -> EdgeError {
        let why = "This app was built without it. Add the product in Xcode, see README.md"
        return EdgeError("no runtime: \(runtime). \(why).", .unsupported)
    }
}
