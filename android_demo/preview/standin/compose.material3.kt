package androidx.compose.material3

import ai.edgekit.preview.Composition
import ai.edgekit.preview.View
import androidx.compose.foundation.layout.PaddingValues
import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier
import androidx.compose.ui.text.AnnotatedString
import androidx.compose.ui.text.font.FontFamily
import androidx.compose.ui.text.input.VisualTransformation
import androidx.compose.ui.unit.dp

class Color(val css: String)

class TextStyle(val css: String)

class ColorScheme {
    val onSurface = Color("#1d1d1f")
    val error = Color("#b3261e")
}

fun lightColorScheme() = ColorScheme()

fun darkColorScheme(): ColorScheme = throw UnsupportedOperationException("the stand-in draws by day only")

object Typography {
    val titleMedium = TextStyle("font-size:16px;font-weight:500")
    val titleSmall = TextStyle("font-size:14px;font-weight:500")
    val bodyLarge = TextStyle("font-size:16px")
}

object MaterialTheme {
    val typography = Typography
    val colorScheme = lightColorScheme()
}

@Composable
@Suppress("UNUSED_PARAMETER")
fun MaterialTheme(colorScheme: ColorScheme, content: @Composable () -> Unit) = content()

@Composable
fun Scaffold(content: @Composable (PaddingValues) -> Unit) = content(PaddingValues(0.dp))

@Composable
fun Text(text: String, color: Color? = null, fontFamily: FontFamily? = null, style: TextStyle? = null) {
    val parts = listOfNotNull(style?.css, color?.let { "color:${it.css}" }, fontFamily?.let { "font-family:${it.css}" })
    Composition.add(View("text", parts.joinToString(";")).also { it.text = text })
}

@Composable
fun Text(text: AnnotatedString, style: TextStyle? = null) =
    Composition.add(View("text", style?.css.orEmpty()).also { it.children.addAll(text.spans) })

@Composable
fun Button(onClick: () -> Unit, enabled: Boolean = true, content: @Composable () -> Unit) =
    Composition.add(View("button", isEnabled = enabled).also { it.onTap = onClick }, content)

@Composable
fun TextButton(onClick: () -> Unit, content: @Composable () -> Unit) =
    Composition.add(View("button plain").also { it.onTap = onClick }, content)

@Composable
fun FilterChip(selected: Boolean, onClick: () -> Unit, label: @Composable () -> Unit) =
    Composition.add(View(if (selected) "chip selected" else "chip").also { it.onTap = onClick }, label)

@Composable
fun Card(modifier: Modifier = Modifier, content: @Composable () -> Unit) =
    Composition.add(View("card", modifier.style), content)

@Composable
fun OutlinedTextField(
    value: String,
    onValueChange: (String) -> Unit,
    modifier: Modifier = Modifier,
    label: @Composable () -> Unit,
    singleLine: Boolean = false,
    visualTransformation: VisualTransformation = VisualTransformation.None,
) = Composition.add(View("field", modifier.style).also { it.onType = onValueChange }) {
    Composition.add(View("label"), label)
    val shown = visualTransformation.shown(if (singleLine) value.replace('\n', ' ') else value)
    Composition.add(View("value").also { it.text = shown })
}

@Composable
fun Slider(value: Float, onValueChange: (Float) -> Unit, onValueChangeFinished: () -> Unit) {
    val view = View("slider", "--share:${value * 100}%")
    view.onType = { onValueChange(it.toFloat()).also { onValueChangeFinished() } }
    Composition.add(view)
}

@Composable
fun AlertDialog(
    onDismissRequest: () -> Unit,
    confirmButton: @Composable () -> Unit,
    dismissButton: @Composable () -> Unit,
    title: @Composable () -> Unit,
    text: @Composable () -> Unit,
) = Composition.add(View("scrim").also { it.onTap = onDismissRequest }) {
    Composition.add(View("dialog")) {
        Composition.add(View("title"), title)
        Composition.add(View("body"), text)
        Composition.add(View("actions")) {
            dismissButton()
            confirmButton()
        }
    }
}
