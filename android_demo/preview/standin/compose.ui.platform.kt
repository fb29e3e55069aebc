package androidx.compose.ui.platform

import ai.edgekit.preview.Composition
import android.content.Context

object LocalContext {
    val current: Context get() = Composition.application
}
