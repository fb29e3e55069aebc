package ai.edgekit.core

import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** The decision rule on the cases every language shares. */
fun decisionTests(data: TestData): Tests = data.files("decision_cases").associate { file ->
    val fields = readFields(file)
    val cases = fields.list("cases").map { JsonFields.of(it) }
    "decisions: ${file.name}, ${cases.size} cases at every bias, decoded and derived, or refused" to {
        assertTrue(cases.isNotEmpty())
        for (case in cases) replay(case, fields)
    }
}

private fun replay(case: JsonFields, shared: JsonFields) {
    val name = case.text("name")
    val spec = spec(shared.fields("routing"), case)
    val texts = shared.fields("pieces")
    val vocabulary = Vocabulary.of(texts.names.associate { it.toInt() to texts.text(it).toByteArray() })
    val prompt = shared.tokenIds("prompt_token_ids").toIntArray()
    val model = MadeUpRows(case.list("rows").map { row -> logits(row as List<*>) }, shared.count("context_length"))

    fun decide(bias: Double) =
        decode(model, prompt, DecodeSession(spec, vocabulary, prompt.size, model.contextLength, bias))
    if ("refused" in case) {
        val error = runCatching { decide(0.0) }.exceptionOrNull() as? EdgekitException
        assertEquals(case.text("refused"), error?.kind?.word, name)
        return
    }
    val solo = decide(Double.NEGATIVE_INFINITY)
    val margins = solo.margins.filter { it.margin.isFinite() }.map { listOf(it.position.toDouble(), it.margin) }
    assertEquals(case.list("margins").map { pair -> (pair as List<*>).map { (it as Number).toDouble() } }, margins, name)
    for (recorded in case.list("decisions").map { JsonFields.of(it) }) {
        val bias = recorded.numberOrNull("marker_bias") ?: Double.NEGATIVE_INFINITY
        val got = decide(bias)
        assertEquals(got, decisionAt(solo, bias, spec, vocabulary), "$name at $bias, derived")
        val expected = recorded.fields("expect")
        val decided = listOf(got.route.text, got.reason, got.text, got.answer)
        assertEquals(listOf("route", "reason", "text", "answer").map { expected.members[it] }, decided, "$name at $bias")
        assertEquals(expected.tokenIds("token_ids"), got.tokenIds, "$name at $bias")
        assertEquals(expected.numberOrNull("marker_margin") ?: got.markerMargin, got.markerMargin, "$name at $bias")
    }
}

/** "nan", "inf" and "-inf" stand for what JSON cannot write. */
private fun logits(row: List<*>): FloatArray {
    val words = mapOf("nan" to Float.NaN, "inf" to Float.POSITIVE_INFINITY, "-inf" to Float.NEGATIVE_INFINITY)
    return FloatArray(row.size) { index -> row[index].let { (it as? Number)?.toFloat() ?: words.getValue(it as String) } }
}

/** A model that returns [rows] in turn, whatever it is given; the last one stays. */
private class MadeUpRows(private val rows: List<FloatArray>, override val contextLength: Int) : StepModel {
    private var at = 0

    override fun reset() {
        at = 0
    }

    override fun prefill(tokenIds: IntArray): FloatArray = rows[minOf(at++, rows.size - 1)]

    override fun decode(tokenId: Int): FloatArray = rows[minOf(at++, rows.size - 1)]
}

private fun spec(routing: JsonFields, case: JsonFields): RoutingSpec {
    val spec = RoutingSpec.of(routing)
    val ids = if ("marker_token_ids" in case) case.tokenIdLists("marker_token_ids") else spec.marker.tokenIds
    val limit = if ("max_new_tokens" in case) case.count("max_new_tokens") else spec.maxNewTokens
    return spec.copy(marker = spec.marker.copy(tokenIds = ids), maxNewTokens = limit)
}
