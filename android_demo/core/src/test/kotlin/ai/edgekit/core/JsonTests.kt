package ai.edgekit.core

import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** The JSON reader and writer. */
fun jsonTests(): Tests = mapOf(
    "json: values survive writing and reading" to {
        val value = mapOf(
            "a" to listOf(1L, -2.5, 1e300, true, null), "b\"\\\n" to "é\u2028\uD83D\uDE00\u0000",
            "c" to mapOf<String, Any?>(),
        )
        assertEquals<Any?>(value, Json.parse(Json.write(value)))
        assertEquals<Any?>(listOf("\uD83D\uDE00/"), Json.parse(""" [ "\ud83d\ude00\/" ] """))
    },
    "json: what is not JSON is refused" to {
        val bad = listOf(
            "", "{", "[1,]", "{\"a\" 1}", "01", "+1", "NaN", "Infinity", "\"\n\"", "\"\\x\"", "\"\\u12g4\"",
            "\"\\u+123\"", "tru", "[1] 2", "\"abc", "{\"a\":}", "'a'", "-", "1.", "[".repeat(5000),
        )
        for (text in bad) assertTrue("not JSON" in refusal { Json.parse(text) }, text)
    },
)
