package androidx.compose.runtime.saveable

import ai.edgekit.preview.Composition
import androidx.compose.runtime.Composable

@Composable
fun <T : Any> rememberSaveable(init: () -> T): T = Composition.remember(init)
