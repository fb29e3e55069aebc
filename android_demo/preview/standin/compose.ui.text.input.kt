package androidx.compose.ui.text.input

fun interface VisualTransformation {
    fun shown(text: String): String

    companion object {
        val None = VisualTransformation { it }
    }
}

class PasswordVisualTransformation : VisualTransformation {
    override fun shown(text: String) = "•".repeat(text.length)
}
