package ai.edgekit.core

import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** The routing-token decoder on the cases every language shares. */
fun decoderTests(data: TestData): Tests = data.files("decoder_cases").associate { file ->
    val fields = readFields(file)
    val cases = fields.list("cases").map { JsonFields.of(it) }
    "decoder: ${file.name}, ${cases.size} cases decided and streamed as Python does" to {
        assertTrue(cases.isNotEmpty())
        val routing = fields.fields("routing")
        val vocabulary = vocabulary(fields)
        for (case in cases) replay(case, routing, vocabulary)
    }
} + mapOf("decoder: the bias moves the call exactly at the margin" to ::biasTest)

private fun vocabulary(fields: JsonFields): Vocabulary {
    val texts = fields.fields("pieces")
    val bytes = fields.fields("byte_pieces")
    val spelled = texts.names.associate { it.toInt() to texts.text(it).toByteArray() }
    return Vocabulary.of(spelled + bytes.names.associate { it.toInt() to fromHexadecimal(bytes.text(it)) })
}

private fun fromHexadecimal(text: String) = text.chunked(2).map { it.toInt(16).toByte() }.toByteArray()

/** The file's routing with the case's overrides. */
private fun spec(routing: JsonFields, case: JsonFields): RoutingSpec {
    val marker = routing.fields("marker").members.toMutableMap()
    val members = routing.members.toMutableMap()
    for (name in listOf("on_no_answer", "stop_token_ids", "answer", "prompt_template")) {
        if (name in case) members[name] = case.members[name]
    }
    if ("marker_text" in case) marker["text"] = case.members["marker_text"]
    if ("marker_token_ids" in case) marker["token_ids"] = case.members["marker_token_ids"]
    return RoutingSpec.of(JsonFields.of(members + ("marker" to marker)))
}

private fun replay(case: JsonFields, routing: JsonFields, vocabulary: Vocabulary) {
    val name = case.text("name")
    val decoder = RoutingDecoder(spec(routing, case), vocabulary)
    val tokens = case.tokenIds("token_ids")
    val streamed = tokens.map(decoder::push)
    val decision = decoder.finish()
    val expected = case.fields("expect")
    val got = listOf(decision.route.text, decision.reason, decision.text, decision.answer)
    assertEquals(listOf("route", "reason", "text", "answer").map { expected.members[it] }, got, name)
    if ("streamed" in case) assertEquals(case.list("streamed"), streamed, name)
    val count = if ("token_count" in case) case.index("token_count") else tokens.size
    assertEquals(count, decision.tokenIds.size, name)
}

private val SPEC = RoutingSpec(
    Marker("<call>", listOf(listOf(2))), AnswerFormat(), listOf(3), 16, "{prompt}", 0.0, null, null, Route.CLOUD,
)

private fun biasTest() {
    val vocabulary = Vocabulary.of(mapOf(2 to "<call>".toByteArray(), 5 to "a".toByteArray()))
    for ((bias, called) in listOf(0.0 to false, 1.9 to false, 2.1 to true, Double.NEGATIVE_INFINITY to false)) {
        // Token 5 first, the marker two below it, then the stop.
        val model = ScriptedModel(listOf(mapOf(5 to 0f, 2 to -2f), mapOf(3 to 0f)))
        val decision = decode(model, intArrayOf(1), DecodeSession(SPEC, vocabulary, 1, 64, bias))
        assertEquals(called, decision.reason == "marker", "bias $bias")
        assertEquals(-2.0 + if (bias.isInfinite()) 0.0 else bias, decision.markerMargin, 1e-12)
    }
    refusal { DecodeSession(SPEC, vocabulary, 64, 64) }.let { assertTrue("prompt too long: 64 tokens" in it) }
}

/** A model that returns [steps] in turn, each a few logits above -50; the last one stays. */
class ScriptedModel(private val steps: List<Map<Int, Float>>, private val vocabularySize: Int = 40) : StepModel {
    override val contextLength = 64
    private var at = 0

    override fun reset() {
        at = 0
    }

    override fun prefill(tokenIds: IntArray): FloatArray = logits()

    override fun decode(tokenId: Int): FloatArray {
        at++
        return logits()
    }

    private fun logits() = FloatArray(vocabularySize) { steps[minOf(at, steps.size - 1)][it] ?: -50f }
}
