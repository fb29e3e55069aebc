package ai.edgekit.core

import java.io.File
import java.lang.management.ManagementFactory
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** The tokenizer against the ids Hugging Face's tokenizers gave, and how fast it opens. */
fun tokenizerTests(data: TestData): Tests = data.files("tokenizer_cases").associate { file ->
    "tokenizer: ${file.name} of ${file.parentFile.name}, every text gives Hugging Face's ids" to { replay(file, data) }
} + mapOf(
    "tokenizer: 151,000 tokens are read in time" to ::manyTokens,
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
        val tokenizer = Tokenizer(TokenizerFile.read(tokenizerJson))
        for (case in own) {
            val text = case.text("text")
            assertEquals(case.tokenIds("ids"), tokenizer.encode(text).toList(), "$name of ${Json.write(text)}")
        }
        println("      ${own.size} texts of $name")
    }
}

/** Prompts in templates: the user's text yields no added token. */
fun promptTests(data: TestData): Tests = data.files("prompt_cases").associate { file ->
    "prompts: ${file.name} of ${file.parentFile.name}, user text is data" to { replayPrompts(file, data) }
}

private fun replayPrompts(file: File, data: TestData) {
    val fields = readFields(file)
    val delimiters = fields.list("delimiters").map { it as String }.toSet()
    for ((name, own) in fields.list("cases").map { JsonFields.of(it) }.groupBy { it.text("tokenizer") }) {
        val tokenizer = Tokenizer(TokenizerFile.read(data.find(fields.fields("tokenizers").text(name), file)!!))
        for (case in own) {
            val parts = promptParts(case.text("template"), case.text("prompt"))
            val ids = tokenizer.encode(parts, delimiters).toList()
            assertEquals(case.tokenIds("ids"), ids, "$name of ${Json.write(parts.map { it.text })}")
        }
        println("      ${own.size} prompts of $name")
    }
}

/** A vocabulary of [count] tokens, every one but the bytes a merge of two others. */
private fun largeTokenizer(count: Int): ByteArray {
    val bytes = ByteAlphabet.characters.map { it.toString() }
    val texts = LinkedHashSet(bytes)
    val merges = ArrayList<String>()
    for (left in bytes + bytes.flatMap { first -> bytes.map { first + it } }) {
        for (right in bytes) {
            if (texts.size < count && texts.add(left + right)) merges.add(Json.write(listOf(left, right)))
        }
    }
    val vocabulary = texts.withIndex().joinToString(",") { (id, text) -> "${Json.write(text)}:$id" }
    val level = """{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}"""
    val model = """{"type": "BPE", "vocab": {$vocabulary}, "merges": [${merges.joinToString(",")}]}"""
    return """{"pre_tokenizer": $level, "model": $model}""".toByteArray()
}

private fun manyTokens() {
    val bytes = largeTokenizer(151_000)
    val thread = ManagementFactory.getThreadMXBean()
    val begin = thread.currentThreadCpuTime
    val tokenizer = Tokenizer(TokenizerFile.read(bytes.inputStream()))
    val seconds = (thread.currentThreadCpuTime - begin) / 1e9
    println("      151,000 tokens in %.1f MB read in %.2f s of processor time".format(bytes.size / 1e6, seconds))
    assertTrue(seconds < 20, "$seconds s of processor time")
    assertEquals(1, tokenizer.encode("\u0000\u0000z").size)
}

private fun longRun(data: TestData) {
    val tokenizer = Tokenizer(TokenizerFile.read(File(data.repository, "edgekit/policy/base/tokenizer.json")))
    val text = "1".repeat(200_000)
    val thread = ManagementFactory.getThreadMXBean()
    val begin = thread.currentThreadCpuTime
    val ids = tokenizer.encode(text)
    val seconds = (thread.currentThreadCpuTime - begin) / 1e9
    assertTrue(seconds < 20, "$seconds s of processor time")
    val short = tokenizer.encode("1".repeat(2000))
    assertContentEquals(short, ids.copyOf(short.size))
}
