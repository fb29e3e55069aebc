package ai.edgekit.core

import java.io.File
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** The tokenizer against the ids Hugging Face's tokenizers gave, and what it must refuse. */
fun tokenizerTests(data: TestData): Tests = data.files("tokenizer_cases").associate { file ->
    "tokenizer: ${file.path.takeLast(60)}, every text gives Hugging Face's ids" to { replay(file, data) }
} + mapOf(
    "tokenizer: what is not byte-level BPE is refused by name" to ::refusals,
    "tokenizer: a long run of one character takes no quadratic time" to { longRun(data) },
)

private fun replay(file: File, data: TestData) {
    val fields = readFields(file)
    val paths = fields.fields("tokenizers")
    val tokenizers = paths.names.associateWith { Tokenizer.of(readFields(data.resolve(paths.text(it), file))) }
    val cases = fields.list("cases").map { JsonFields.of(it) }
    assertTrue(cases.isNotEmpty())
    var wrong = 0
    var first: String? = null
    for (case in cases) {
        val name = case.text("tokenizer")
        val text = case.text("text")
        val expected = case.tokenIds("ids")
        val got = tokenizers.getValue(name).encode(text).toList()
        if (got == expected) continue
        wrong++
        first = first ?: "$name of ${Json.write(text)}: expected $expected, got $got"
    }
    assertEquals(0, wrong, "of ${cases.size} cases; the first: $first")
}

private fun refusals() {
    fun of(tokenizer: String) = refusal { Tokenizer.of(JsonFields.of(Json.parse(tokenizer))) }
    val model = """"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}"""
    val byteLevel = """"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}"""
    assertTrue("Metaspace" in of("""{$model, "pre_tokenizer": {"type": "Metaspace"}}"""))
    assertTrue("Lowercase" in of("""{$model, $byteLevel, "normalizer": {"type": "Lowercase"}}"""))
    assertTrue("Unigram" in of("""{"model": {"type": "Unigram", "vocab": []}, $byteLevel}"""))
    assertTrue("truncation" in of("""{$model, $byteLevel, "truncation": {"max_length": 8}}"""))
    assertTrue("pre_tokenizer" in of("""{$model, "pre_tokenizer": null}"""))
    val badMerge = """{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}, $byteLevel}"""
    assertTrue("model.merges.0" in of(badMerge))
}

private fun longRun(data: TestData) {
    val tokenizer = Tokenizer.of(readFields(File(data.repository, "edgekit/policy/base/tokenizer.json")))
    val text = "1".repeat(200_000)
    val begin = System.nanoTime()
    val ids = tokenizer.encode(text)
    val seconds = (System.nanoTime() - begin) / 1e9
    assertTrue(seconds < 20, "$seconds s")
    assertContentEquals(tokenizer.encode("1".repeat(2000)), ids.copyOf(tokenizer.encode("1".repeat(2000)).size))
}
