package androidx.compose.ui.text

import ai.edgekit.preview.View
import androidx.compose.ui.text.font.FontFamily
import androidx.compose.ui.text.font.FontWeight

class SpanStyle(fontWeight: FontWeight? = null, fontFamily: FontFamily? = null) {
    val css = listOfNotNull(fontWeight?.css, fontFamily?.let { "font-family:${it.css}" }).joinToString(";")
}

/** Text in spans, each with its style. */
class AnnotatedString(val spans: List<View>) {
    class Builder {
        val spans = ArrayList<View>()
        var style = ""

        fun append(text: String) {
            if (text.isNotEmpty()) spans.add(View("span", style).also { it.text = text })
        }
    }
}

fun buildAnnotatedString(builder: AnnotatedString.Builder.() -> Unit) =
    AnnotatedString(AnnotatedString.Builder().apply(builder).spans)

fun AnnotatedString.Builder.withStyle(style: SpanStyle, block: AnnotatedString.Builder.() -> Unit) {
    this.style = style.css
    block()
    this.style = ""
}
