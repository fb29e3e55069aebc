package ai.edgekit.core

import java.io.InputStream

/**
 * A small JSON reader and writer, so that the core needs no library and behaves the same on every Android.
 *
 * Values are Map<String, Any?>, List<Any?>, String, Long (whole numbers), Double, Boolean and null.
 */
public object Json {
    /** The one value that [input] holds. Throws [EdgekitException] (NOT_JSON), see [JsonReader]. */
    public fun parse(input: InputStream): Any? {
        val reader = JsonReader(input)
        return reader.value().also { reader.end() }
    }

    /** The same of [bytes]. */
    public fun parse(bytes: ByteArray): Any? = parse(bytes.inputStream())

    /** The same of [text]. */
    public fun parse(text: String): Any? = parse(text.toByteArray())

    /** [value] as compact JSON with keys in the order given. Numbers must be finite. */
    public fun write(value: Any?): String = StringBuilder().also { write(value, it) }.toString()

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
