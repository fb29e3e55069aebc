package ai.edgekit.core

/**
 * A small JSON reader and writer, so that the core needs no library and behaves the same on every Android.
 *
 * Values are Map<String, Any?>, List<Any?>, String, Long (whole numbers), Double, Boolean and null.
 */
object Json {
    /** Parse one JSON [text]. Throws [EdgekitException] naming the character where it stops being JSON. */
    fun parse(text: String): Any? = JsonReader(text).document()

    /** [value] as compact JSON with keys in the order given. Numbers must be finite. */
    fun write(value: Any?): String = StringBuilder().also { write(value, it) }.toString()

    private fun write(value: Any?, out: StringBuilder) {
        when (value) {
            null, is Boolean, is Int, is Long -> out.append(value)
            is Double -> {
                require(value.isFinite()) { "JSON has no $value" }
                out.append(value)
            }
            is String -> quote(value, out)
            is List<*> -> {
                out.append('[')
                value.forEachIndexed { index, item ->
                    if (index > 0) out.append(", ")
                    write(item, out)
                }
                out.append(']')
            }
            is Map<*, *> -> {
                out.append('{')
                value.entries.forEachIndexed { index, (key, item) ->
                    if (index > 0) out.append(", ")
                    quote(key as String, out)
                    out.append(": ")
                    write(item, out)
                }
                out.append('}')
            }
            else -> throw IllegalArgumentException("JSON has no ${value.javaClass.name}")
        }
    }

    /** ASCII only, as Python's json writes it. */
    private fun quote(text: String, out: StringBuilder) {
        out.append('"')
        for (character in text) {
            when {
                character == '"' || character == '\\' -> out.append('\\').append(character)
                character == '\n' -> out.append("\\n")
                character < ' ' || character > '~' ->
                    out.append("\\u").append(character.code.toString(16).padStart(4, '0'))
                else -> out.append(character)
            }
        }
        out.append('"')
    }
}

/** Recursive descent over [text]; nesting is bounded so that a hostile file cannot exhaust the stack. */
private class JsonReader(private val text: String) {
    private var at = 0

    fun document(): Any? {
        val value = value(0)
        skipSpace()
        if (at < text.length) fail("text after the end")
        return value
    }

    private fun value(depth: Int): Any? {
        if (depth > MAX_DEPTH) fail("nested too deep")
        skipSpace()
        return when (peek()) {
            '{' -> members(depth)
            '[' -> items(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun members(depth: Int): Map<String, Any?> {
        val members = LinkedHashMap<String, Any?>()
        at++
        skipSpace()
        if (peek() == '}') return members.also { at++ }
        while (true) {
            skipSpace()
            if (peek() != '"') fail("a key was expected")
            val key = string()
            skipSpace()
            if (peek() != ':') fail("':' was expected")
            at++
            members[key] = value(depth + 1)
            if (ends('}')) return members
        }
    }

    private fun items(depth: Int): List<Any?> {
        val items = ArrayList<Any?>()
        at++
        skipSpace()
        if (peek() == ']') return items.also { at++ }
        while (true) {
            items.add(value(depth + 1))
            if (ends(']')) return items
        }
    }

    private fun ends(close: Char): Boolean {
        skipSpace()
        val character = peek()
        if (character != ',' && character != close) fail("',' or '$close' was expected")
        at++
        return character == close
    }

    private fun string(): String {
        val begin = ++at
        while (peek() != '"' && text[at] != '\\') plain()
        if (text[at] == '"') return text.substring(begin, at++)
        val out = StringBuilder().append(text, begin, at)
        while (peek() != '"') {
            if (text[at] == '\\') out.append(escape()) else out.append(plain())
        }
        at++
        return out.toString()
    }

    private fun plain(): Char {
        if (text[at] < ' ') fail("a control character in a string")
        return text[at++]
    }

    private fun escape(): Char {
        at++
        val letter = peek()
        at++
        return when (letter) {
            '"', '\\', '/' -> letter
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                val digits = text.substring(at, minOf(at + 4, text.length))
                val isHexadecimal = digits.length == 4 && digits.all { it in "0123456789abcdefABCDEF" }
                if (!isHexadecimal) fail("a bad \\u escape")
                at += 4
                digits.toInt(16).toChar()
            }
            else -> fail("a bad escape")
        }
    }

    private fun number(): Any {
        val found = NUMBER.matchAt(text, at) ?: fail("a value was expected")
        at += found.value.length
        val isWhole = found.value.none { it in ".eE" }
        return (if (isWhole) found.value.toLongOrNull() else null) ?: found.value.toDouble()
    }

    private fun word(word: String, value: Any?): Any? {
        if (!text.startsWith(word, at)) fail("a value was expected")
        at += word.length
        return value
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("the end came too early")

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\r\n") at++
    }

    private fun fail(what: String): Nothing =
        throw EdgekitException("not JSON: character $at. $what. Write the file again.")

    private companion object {
        const val MAX_DEPTH = 64
        val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?")
    }
}
