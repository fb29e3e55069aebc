package ai.edgekit.core

import java.util.regex.Matcher
import java.util.regex.Pattern
import java.util.regex.PatternSyntaxException

/** Cuts text into the pieces within which merges may happen, and spells their bytes with [ByteAlphabet]. */
class PreTokenizer private constructor(private val steps: List<(String) -> List<String>>) {
    /** The pieces of [text], none empty, in order. */
    fun split(text: String): List<String> =
        steps.fold(listOf(text)) { pieces, step -> pieces.flatMap(step) }.filter { it.isNotEmpty() }

    companion object {
        private const val GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

        /** The pre-tokenizer of a parsed tokenizer.json. Throws [EdgekitException] for one not known here. */
        fun of(value: Any?): PreTokenizer {
            val steps = ArrayList<(String) -> List<String>>()
            addSteps(value, steps)
            if ("ByteLevel" !in Json.write(value)) throw EdgekitException("pre_tokenizer: it is not byte-level")
            return PreTokenizer(steps)
        }

        private fun addSteps(value: Any?, steps: MutableList<(String) -> List<String>>) {
            val fields = JsonFields.of(value, "pre_tokenizer")
            when (val type = fields.text("type")) {
                "Sequence" -> fields.list("pretokenizers").forEach { addSteps(it, steps) }
                "Digits" -> {
                    val pattern = compile(if (fields.flag("individual_digits")) "\\p{N}" else "\\p{N}+")
                    steps += { cut(it, pattern, keepsMatches = true, keepsRest = true) }
                }
                "Split" -> steps += splitStep(fields)
                "ByteLevel" -> {
                    if (fields.flag("add_prefix_space")) steps += { listOf(if (it.startsWith(' ')) it else " $it") }
                    if (fields.flagOrNull("use_regex") ?: true) {
                        val pattern = compile(GPT2)
                        steps += { cut(it, pattern, keepsMatches = true, keepsRest = true) }
                    }
                    steps += { listOf(spell(it)) }
                }
                else -> throw EdgekitException("pre_tokenizer.type: $type is not known here")
            }
        }

        private fun splitStep(fields: JsonFields): (String) -> List<String> {
            val pattern = fields.fields("pattern")
            val isRegex = "Regex" in pattern
            val regex = if (isRegex) compile(pattern.text("Regex")) else quoted(pattern.text("String"))
            val inverted = fields.flagOrNull("invert") ?: false
            return when (val behavior = fields.text("behavior")) {
                "Isolated" -> { text -> cut(text, regex, keepsMatches = true, keepsRest = true) }
                "Removed" -> { text -> cut(text, regex, keepsMatches = inverted, keepsRest = !inverted) }
                else -> throw EdgekitException("pre_tokenizer.behavior: $behavior is not known here")
            }
        }

        private fun cut(text: String, pattern: Pattern, keepsMatches: Boolean, keepsRest: Boolean): List<String> {
            val pieces = ArrayList<String>()
            val matcher: Matcher = pattern.matcher(text)
            var from = 0
            while (matcher.find()) {
                if (matcher.start() > from && keepsRest) pieces.add(text.substring(from, matcher.start()))
                if (matcher.end() > matcher.start() && keepsMatches) pieces.add(matcher.group())
                from = matcher.end()
            }
            if (from < text.length && keepsRest) pieces.add(text.substring(from))
            return pieces
        }

        private fun spell(text: String): String {
            val bytes = text.toByteArray()
            return String(CharArray(bytes.size) { ByteAlphabet.characters[bytes[it].toInt() and 0xFF] })
        }

        private fun quoted(text: String): Pattern = Pattern.compile(Pattern.quote(text))

        private fun compile(regex: String): Pattern = try {
            Pattern.compile(RegexDialect.translate(regex), Pattern.UNICODE_CASE)
        } catch (error: PatternSyntaxException) {
            throw EdgekitException("pre_tokenizer.pattern: ${error.description}")
        }
    }
}

/**
 * Oniguruma's Unicode classes written out, since \s, \d and \w mean less in Java's regular expressions and
 * something else again in Android's.
 */
internal object RegexDialect {
    private const val SPACES =
        "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
    private val CLASSES = mapOf('s' to SPACES, 'd' to "\\p{Nd}", 'w' to "\\p{L}\\p{M}\\p{N}\\p{Pc}")

    /** [regex] in the dialect that Java and Android share. */
    fun translate(regex: String): String {
        val out = StringBuilder()
        var isInClass = false
        var at = 0
        while (at < regex.length) {
            val character = regex[at]
            if (character == '\\' && at + 1 < regex.length) {
                out.append(escape(regex[at + 1], isInClass))
                at += 2
                continue
            }
            // Within a class Java gives '[' and '&' a meaning of their own.
            if (isInClass && (character == '[' || character == '&')) out.append('\\')
            if (character == '[') isInClass = true
            if (character == ']') isInClass = false
            out.append(character)
            at++
        }
        return out.toString()
    }

    private fun escape(letter: Char, isInClass: Boolean): String {
        val members = CLASSES[letter.lowercaseChar()] ?: return "\\$letter"
        if (letter.isLowerCase()) return if (isInClass) members else "[$members]"
        if (isInClass) throw EdgekitException("pre_tokenizer.pattern: \\$letter in a class is not known here")
        return "[^$members]"
    }
}
