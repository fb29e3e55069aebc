package ai.edgekit.core

import java.io.File
import java.lang.management.ManagementFactory
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** The tokenizer against the ids Hugging Face's tokenizers gave, and what it must refuse. */
fun tokenizerTests(data: TestData): Tests = data.files("tokenizer_cases").associate { file ->
    "tokenizer: ${file.name} of ${file.parentFile.name}, every text gives Hugging Face's ids" to { replay(file, data) }
} + mapOf(
    "tokenizer: what is not byte-level BPE is refused by name" to ::refusals,
    "tokenizer: a long run of one character takes no quadratic time" to { longRun(data) },
)

private fun replay(file: File, data: TestData) {
    val fields = readFields(file)
    val paths = fields.fields("tokenizers")
    val cases = fields.list("cases").map { JsonFields.of(it) }.groupBy { it.text("tokenizer") }
    assertTrue(cases.isNotEmpty())
    for ((name, own) in cases) {
        val tokenizerJson = data.find(paths.text(name), file)
        if (tokenizerJson == null) {
            println("      NOT RUN: ${own.size} texts of $name, whose ${paths.text(name)} `make conformance` makes")
            continue
        }
        val tokenizer = Tokenizer.of(readFields(tokenizerJson))
        for (case in own) {
            val text = case.text("text")
            assertEquals(case.tokenIds("ids"), tokenizer.encode(text).toList(), "$name of ${Json.write(text)}")
        }
        println("      ${own.size} texts of $name")
    }
}

private fun refusals() {
    fun of(tokenizer: String) = refusal { Tokenizer.of(JsonFields.of(Json.parse(tokenizer))) }
    val model = """"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}"""
    val byteLevel = """"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}"""
    assertTrue("Metaspace" in of("""{$model, "pre_tokenizer": {"type": "Metaspace"}}"""))
    assertTrue("Lowercase" in of("""{$model, $byteLevel, "normalizer": {"type": "Lowercase"}}"""))
    assertTrue("Unigram" in of("""{"model": {"type": "Unigram", "vocab": []}, $byteLevel}"""))
    assertTrue("pre_tokenizer" in of("""{$model, "pre_tokenizer": null}"""))
    val badMerge = """{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}, $byteLevel}"""
    assertTrue("model.merges.0" in of(badMerge))
}

private fun longRun(data: TestData) {
    val tokenizer = Tokenizer.of(readFields(File(data.repository, "edgekit/policy/base/tokenizer.json")))
    val text = "1".repeat(200_000)
    val thread = ManagementFactory.getThreadMXBean()
    val begin = thread.currentThreadCpuTime
    val ids = tokenizer.encode(text)
    val seconds = (thread.currentThreadCpuTime - begin) / 1e9
    assertTrue(seconds < 20, "$seconds s of processor time")
    val short = tokenizer.encode("1".repeat(2000))
    assertContentEquals(short, ids.copyOf(short.size))
}
