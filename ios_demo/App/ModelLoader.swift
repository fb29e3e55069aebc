import EdgeCore
import Foundation

/// Where bundles lie, and the runtime that executes each one's artifact.
enum ModelLoader {
    /// Bundles in the app's folder Bundles (built in) and in Documents/Bundles (copied with the Files app).
    static func folders() -> [URL] {
        let builtIn = Bundle.main.resourceURL?.appending(path: "Bundles")
        let copied = URL.documentsDirectory.appending(path: "Bundles")
        return [builtIn, copied].compactMap { $0 }.flatMap(bundles)
    }

    private static func bundles(in folder: URL) -> [URL] {
        let found = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        return (found ?? [])
            .filter { FileManager.default.fileExists(atPath: $0.appending(path: BundleManifest.file).path) }
            .sorted { $0.lastPathComponent < $1.lastPathComponent }
    }

    /// Loads the artifact in the runtime its target names. Throws ``EdgeError`` if this app was built without it.
    static func open(_ bundle: EdgeBundle) async throws -> sending any StepModel {
        switch bundle.manifest.target {
        case "coreml":
            return try await CoreMLStepModel.open(bundle)
        case "onnx":
            #if canImport(OnnxRuntimeBindings)
                return try OnnxStepModel.open(bundle)
            #else
                throw missing("ONNX Runtime")
            #endif
        default:
            #if canImport(ExecuTorch)
                return try ExecuTorchStepModel.open(bundle)
            #else
                throw missing("ExecuTorch")
            #endif
        }
    }

    private static func missing(_ runtime: String) -> EdgeError {
        EdgeError("no runtime: \(runtime). This app was built without its package. Add it in Xcode, see README.md.")
    }
}
