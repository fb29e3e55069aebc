package ai.edgekit.core

import java.text.Normalizer

/** What is done to text before it is cut into pieces. */
internal class TextNormalizer(file: TokenizerFile) {
    private val steps: List<(String) -> String> = file.steps("normalizer").map(::step)

    fun normalize(text: String): String = steps.fold(text) { normalized, step -> step(normalized) }

    private fun step(fields: JsonFields): (String) -> String = when (val type = fields.text("type")) {
        "NFC", "NFD", "NFKC", "NFKD" -> Normalizer.Form.valueOf(type).let { form -> { Normalizer.normalize(it, form) } }
        "Prepend" -> fields.text("prepend").let { prefix -> { if (it.isEmpty()) it else prefix + it } }
        "Replace" -> replacement(fields)
        "Strip" -> strip(fields.flag("strip_left"), fields.flag("strip_right"))
        else -> unsupported("normalizer.type: $type")
    }

    private fun replacement(fields: JsonFields): (String) -> String {
        val pattern = fields.fields("pattern")
        if ("String" !in pattern) unsupported("normalizer.pattern: not a plain text")
        val old = pattern.filled("String")
        val new = fields.text("content")
        return { it.replace(old, new) }
    }

    private fun strip(left: Boolean, right: Boolean): (String) -> String = { text ->
        val begun = if (left) text.dropWhile(::isWhiteSpace) else text
        if (right) begun.dropLastWhile(::isWhiteSpace) else begun
    }
}
