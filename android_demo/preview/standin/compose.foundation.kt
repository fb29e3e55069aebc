package androidx.compose.foundation

import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier

class ScrollState

@Composable
fun rememberScrollState() = ScrollState()

/** What does not fit is cut off, as before the first scrolling. */
fun Modifier.verticalScroll(state: ScrollState) = this

@Composable
fun isSystemInDarkTheme() = false
