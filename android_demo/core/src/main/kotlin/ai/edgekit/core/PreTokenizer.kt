package ai.edgekit.core

import java.util.regex.Matcher
import java.util.regex.Pattern
import java.util.regex.PatternSyntaxException

/** A step that cuts text into pieces; isFirst says whether the text stands at the whole text's start. */
private typealias Cut = (text: String, isFirst: Boolean) -> List<String>

/** Cuts text into the pieces within which merges may happen, spelled as the vocabulary spells them. */
internal class PreTokenizer(file: TokenizerFile) {
    private val steps: List<Cut> = file.steps("pre_tokenizer").flatMap(::cuts)

    /** The pieces of [text], none empty, in order; [isFirst] as the text stands at the whole text's start. */
    fun split(text: String, isFirst: Boolean): List<String> = steps.fold(listOf(text)) { pieces, cut ->
        pieces.flatMapIndexed { index, piece -> cut(piece, isFirst && index == 0) }.filter { it.isNotEmpty() }
    }

    private fun cuts(fields: JsonFields): List<Cut> = when (val type = fields.text("type")) {
        "ByteLevel" -> byteLevel(fields.flag("add_prefix_space"), fields.flagOrNull("use_regex") ?: true)
        "Digits" -> {
            val pattern = compile(if (fields.flag("individual_digits")) "\\p{N}" else "\\p{N}+")
            listOf { text, _ -> SplitBehavior.ISOLATED.cut(text, pattern, inverted = false) }
        }
        "Metaspace" -> listOf(metaspace(fields))
        "Split" -> listOf(split(fields))
        else -> unsupported("pre_tokenizer.type: $type")
    }

    private fun byteLevel(addsSpace: Boolean, cuts: Boolean): List<Cut> = buildList {
        if (addsSpace) add { text, _ -> listOf(if (text.startsWith(' ')) text else " $text") }
        if (cuts) {
            val pattern = compile(GPT2)
            add { text, _ -> SplitBehavior.ISOLATED.cut(text, pattern, inverted = false) }
        }
        add { text, _ -> listOf(spell(text)) }
    }

    private fun split(fields: JsonFields): Cut {
        val pattern = fields.fields("pattern")
        val regex = if ("Regex" in pattern) compile(pattern.text("Regex")) else quoted(pattern.filled("String"))
        val name = fields.text("behavior")
        val behavior = SplitBehavior.entries.firstOrNull { it.text == name }
            ?: unsupported("pre_tokenizer.behavior: $name")
        val inverted = fields.flagOrNull("invert") ?: false
        return { text, _ -> behavior.cut(text, regex, inverted) }
    }

    /** Spaces become the replacement, one is put before, and each begins a piece, as far as each is asked for. */
    private fun metaspace(fields: JsonFields): Cut {
        val replacement = fields.filled("replacement")
        val scheme = when {
            fields.flagOrNull("add_prefix_space") == false -> "never"
            "prepend_scheme" in fields -> fields.text("prepend_scheme")
            else -> "always"
        }
        if (scheme !in setOf("always", "first", "never")) unsupported("pre_tokenizer.prepend_scheme: $scheme")
        val cuts = fields.flagOrNull("split") ?: true
        val pattern = quoted(replacement)
        return { text, isFirst ->
            val replaced = text.replace(" ", replacement)
            val prepends = (scheme == "always" || scheme == "first" && isFirst) && !replaced.startsWith(replacement)
            val whole = if (prepends) replacement + replaced else replaced
            if (cuts) SplitBehavior.MERGED_WITH_NEXT.cut(whole, pattern, inverted = false) else listOf(whole)
        }
    }

    private fun spell(text: String): String {
        val bytes = text.toByteArray()
        return String(CharArray(bytes.size) { ByteAlphabet.characters[bytes[it].toInt() and 0xFF] })
    }

    private fun quoted(text: String): Pattern = Pattern.compile(Pattern.quote(text))

    private fun compile(regex: String): Pattern = try {
        Pattern.compile(RegexDialect.translate(regex), Pattern.UNICODE_CASE)
    } catch (error: PatternSyntaxException) {
        unsupported("pre_tokenizer.pattern: ${error.description}")
    }

    private companion object {
        const val GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
    }
}

/** What becomes of the matches of a pattern, and of what is between them. */
private enum class SplitBehavior(val text: String) {
    ISOLATED("Isolated"),
    REMOVED("Removed"),
    MERGED_WITH_PREVIOUS("MergedWithPrevious"),
    MERGED_WITH_NEXT("MergedWithNext"),
    CONTIGUOUS("Contiguous"),
    ;

    /** The pieces of [text]; [inverted], what is between the matches counts as one. */
    fun cut(text: String, pattern: Pattern, inverted: Boolean): List<String> {
        val pieces = ArrayList<String>()
        var follows = false // whether the last piece ends with a match
        for ((begin, end, found) in stretches(text, pattern)) {
            val isMatch = found != inverted
            val joins = pieces.isNotEmpty() && when (this) {
                ISOLATED, REMOVED -> false
                MERGED_WITH_PREVIOUS -> isMatch && !follows
                MERGED_WITH_NEXT -> !isMatch && follows
                CONTIGUOUS -> isMatch == follows
            }
            val piece = text.substring(begin, end)
            if (joins) pieces[pieces.size - 1] += piece else if (this != REMOVED || !isMatch) pieces.add(piece)
            follows = isMatch
        }
        return pieces
    }

    /** All of [text] in order: each match, and each stretch between, as begin, end and whether it is one. */
    private fun stretches(text: String, pattern: Pattern): List<Triple<Int, Int, Boolean>> {
        val stretches = ArrayList<Triple<Int, Int, Boolean>>()
        val matcher: Matcher = pattern.matcher(text)
        var from = 0
        while (matcher.find()) {
            if (matcher.start() > from) stretches.add(Triple(from, matcher.start(), false))
            if (matcher.end() > matcher.start()) stretches.add(Triple(matcher.start(), matcher.end(), true))
            from = matcher.end()
        }
        if (from < text.length) stretches.add(Triple(from, text.length, false))
        return stretches
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
        if (isInClass) unsupported("pre_tokenizer.pattern: \\$letter in a class")
        return "[^$members]"
    }
}
