package ai.edgekit.core

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** Recorded logits of real artifacts must lead to the decisions Python took on them. */
fun logitsTests(data: TestData): Tests = data.files("logits_cases").associate { file ->
    "logits: ${file.name} of ${file.parentFile.name}, the same tokens, margins and decisions" to { replay(file, data) }
}

private fun replay(file: File, data: TestData) {
    val fields = readFields(file)
    val logits = RecordedLogits(file, fields.fields("logits"))
    val routing = RoutingSpec.of(fields.fields("routing"))
    val vocabulary = Vocabulary.of(TokenizerFile.read(data.find(fields.text("tokenizer"), file)!!), routing)
    val cases = fields.list("cases").map { JsonFields.of(it) }
    assertTrue(cases.isNotEmpty())
    for (case in cases) {
        for (recorded in case.list("decisions").map { JsonFields.of(it) }) {
            val bias = recorded.numberOrNull("marker_bias") ?: Double.NEGATIVE_INFINITY
            val name = "${case.text("name")} at bias $bias"
            val length = (if ("context_length" in recorded) recorded else fields).count("context_length")
            val limit = if ("max_new_tokens" in recorded) recorded.count("max_new_tokens") else routing.maxNewTokens
            val prompt = case.tokenIds("prompt_token_ids").toIntArray()
            val spec = routing.copy(maxNewTokens = limit)
            val model = logits.model(case.index("first_row"), case.count("rows"), length)
            val shown = StringBuilder()
            val session = DecodeSession(spec, vocabulary, prompt.size, length, bias, shown::append)
            check(name, recorded.fields("expect"), decode(model, prompt, session))
            assertEquals(recorded.fields("expect").text("text"), shown.toString(), "$name, streamed")
        }
    }
}

private fun check(name: String, expected: JsonFields, got: Decision) {
    val decided = listOf(got.route.text, got.reason, got.text, got.answer)
    assertEquals(listOf("route", "reason", "text", "answer").map { expected.members[it] }, decided, name)
    assertEquals(expected.tokenIds("token_ids"), got.tokenIds, name)
    assertEquals(expected.numberOrNull("marker_margin") ?: Double.NEGATIVE_INFINITY, got.markerMargin, name)
}

/** Rows of float32, little endian, in the file that [fields] names beside [file]. */
private class RecordedLogits(file: File, fields: JsonFields) {
    private val size = fields.count("vocab_size")
    private val rows = ByteBuffer.wrap(File(file.parentFile, fields.text("file")).readBytes())
        .order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()

    /** A model that returns [count] rows from [first] on. */
    fun model(first: Int, count: Int, length: Int): StepModel = object : StepModel {
        override val contextLength = length
        private var at = 0

        override fun reset() {
            at = 0
        }

        override fun prefill(tokenIds: IntArray): FloatArray = row()

        override fun decode(tokenId: Int): FloatArray = row()

        private fun row(): FloatArray {
            check(at < count) { "asked for more than the $count recorded rows" }
            val row = FloatArray(size)
            rows.position((first + at++) * size)
            return row.also(rows::get)
        }
    }
}
