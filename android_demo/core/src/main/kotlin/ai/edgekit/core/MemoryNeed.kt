package ai.edgekit.core

/** What running a bundle takes of memory, by its manifest: its artifact, and keys and values for a whole context. */
public data class MemoryNeed(val artifactBytes: Long, val cacheBytes: Long, val contextLength: Int) {
    /** "needs 310 MB (86 of weights, 224 for 1024 tokens), 1900 MB are free". */
    public fun against(freeBytes: Long): String {
        val parts = "${mb(artifactBytes)} of weights, ${mb(cacheBytes)} for $contextLength tokens"
        return "needs ${mb(artifactBytes + cacheBytes)} MB ($parts), ${mb(freeBytes)} MB are free"
    }

    /** Refuse a bundle that [freeBytes] do not hold, before it is loaded. */
    public fun check(freeBytes: Long) {
        if (artifactBytes + cacheBytes <= freeBytes) return
        val advice = "Close other apps, or export it with fewer bits or a shorter context"
        throw EdgekitException("too large: it ${against(freeBytes)}. $advice.", ErrorKind.DEVICE_FAILED)
    }

    private fun mb(bytes: Long) = (bytes + MB - 1) / MB

    public companion object {
        private const val MB = 1_000_000L

        /** Without the sizes of the heads, which bundles made early lack, a cache as wide as the model is assumed. */
        public fun of(manifest: BundleManifest): MemoryNeed {
            val model = manifest.model
            val isArtifact = { name: String -> name.startsWith(manifest.artifact) } // weights may lie beside it
            val width = (model.keyValueHeads?.toDouble() ?: 1.0) * (model.headDim ?: model.hiddenSize)
            val cache = 2 * model.layers * width * model.contextLength * manifest.cachedBytes
            val artifact = manifest.files.filterKeys(isArtifact).values.sumOf { it.size.toDouble() }
            return MemoryNeed(claimedBytes(artifact), claimedBytes(cache), model.contextLength)
        }
    }
}
