package ai.edgekit.executorch

/** In the place of what Gradle writes: the adapter is compiled here, not run. */
internal object BuildConfig {
    const val EXECUTORCH_VERSION = "0"
}
