/// What running a bundle takes of memory, by its manifest: its artifact, and keys and values for a whole context.
public struct MemoryNeed: Sendable, Equatable {
    public let artifactBytes: Int
    public let cacheBytes: Int
    public let contextLength: Int

    /// Without the sizes of the heads, which bundles made early lack, a cache as wide as the model is assumed.
    public init(_ manifest: BundleManifest) {
        let model = manifest.model
        // Weights may lie beside the artifact, under its name with more behind it.
        let weights = manifest.files.filter { $0.key.hasPrefix(manifest.artifact) }.values
        artifactBytes = claimedBytes(weights.reduce(0) { $0 + Double($1.size) })
        let width = Double(model.keyValueHeads ?? 1) * Double(model.headDim ?? model.hiddenSize)
        let token = 2 * Double(model.layers) * width * Double(manifest.cachedBytes)
        cacheBytes = claimedBytes(token * Double(model.contextLength))
        contextLength = model.contextLength
    }

    /// "needs 310 MB (86 of weights, 224 for 1024 tokens), 1900 MB are free".
    public func against(_ freeBytes: Int) -> String {
        let parts = "\(Self.mb(artifactBytes)) of weights, \(Self.mb(cacheBytes)) for \(contextLength) tokens"
        return "needs \(Self.mb(artifactBytes + cacheBytes)) MB (\(parts)), \(Self.mb(freeBytes)) MB are free"
    }

    /// Refuses a bundle that `freeBytes` do not hold, before it is loaded.
    public func check(_ freeBytes: Int) throws {
        if artifactBytes + cacheBytes <= freeBytes { return }
        let advice = "Close other apps, or export it with fewer bits or a shorter context"
        throw EdgeError("too large: it \(against(freeBytes)). \(advice).", .deviceFailed)
    }

    private static func mb(_ bytes: Int) -> Int { (bytes + 999_999) / 1_000_000 }
}
