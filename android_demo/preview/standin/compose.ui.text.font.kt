package androidx.compose.ui.text.font

class FontFamily private constructor(val css: String) {
    companion object {
        val Monospace = FontFamily("monospace;font-size:12px")
    }
}

class FontWeight private constructor(val css: String) {
    companion object {
        val Bold = FontWeight("font-weight:700")
    }
}
