package androidx.compose.ui

/** Style for one view. */
open class Modifier(val style: String = "") {
    fun with(css: String) = Modifier(if (style.isEmpty()) css else "$style;$css")

    companion object : Modifier()
}
