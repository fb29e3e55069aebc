package androidx.compose.ui.semantics

import androidx.compose.ui.Modifier

enum class LiveRegionMode { Polite }

class SemanticsPropertyReceiver {
    var region: LiveRegionMode? = null
}

var SemanticsPropertyReceiver.liveRegion: LiveRegionMode
    get() = region!!
    set(mode) {
        region = mode
    }

/** As HTML's own: a variable that the test reads. */
fun Modifier.semantics(properties: SemanticsPropertyReceiver.() -> Unit): Modifier {
    val told = SemanticsPropertyReceiver().apply(properties)
    return told.region?.let { with("--live:${it.name.lowercase()}") } ?: this
}
