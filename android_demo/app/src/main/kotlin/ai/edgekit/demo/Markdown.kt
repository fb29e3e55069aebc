package ai.edgekit.demo

import androidx.compose.ui.text.AnnotatedString
import androidx.compose.ui.text.SpanStyle
import androidx.compose.ui.text.buildAnnotatedString
import androidx.compose.ui.text.font.FontFamily
import androidx.compose.ui.text.font.FontWeight
import androidx.compose.ui.text.withStyle

/** `**bold**` and code between backticks. A single star stays: in this app it multiplies. */
private val STYLED = Regex("\\*\\*(\\S(?:[^*]*\\S)?)\\*\\*|`([^`\n]+)`")

/** What of Markdown a model's answer needs, drawn; all else as it is. */
fun markdown(text: String): AnnotatedString = buildAnnotatedString {
    var done = 0
    for (found in STYLED.findAll(text)) {
        append(text.substring(done, found.range.first))
        val (bold, code) = found.destructured
        val style = if (code.isEmpty()) BOLD else CODE
        withStyle(style) { append(bold + code) }
        done = found.range.last + 1
    }
    append(text.substring(done))
}

private val BOLD = SpanStyle(fontWeight = FontWeight.Bold)
private val CODE = SpanStyle(fontFamily = FontFamily.Monospace)
