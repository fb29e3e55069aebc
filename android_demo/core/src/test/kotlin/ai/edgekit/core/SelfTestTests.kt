package ai.edgekit.core

import kotlin.test.assertEquals
import kotlin.test.assertTrue

private val DECISION = mapOf(
    "token_ids" to listOf(658, 57, 659), "route" to "local", "reason" to "answer", "text" to "<answer>9</answer>",
    "answer" to "9", "marker_margin" to -55.0,
)

/** The self-test and the report it writes. */
fun selfTestTests(data: TestData): Tests = mapOf(
    "self-test: a case matches by route, reason and answer, and the report says so" to {
        val folder = makeBundle(data, listOf(case("same", DECISION), case("other", DECISION + ("answer" to "8"))))
        val bundle = Bundle.open(folder)
        val model = ScriptedModel(listOf(mapOf(658 to 5f), mapOf(57 to 1f), mapOf(659 to 1f)), 672)
        val seen = ArrayList<String>()
        val cases = SelfTest(bundle, model).run { seen.add(it.id) }
        assertEquals(listOf("same", "other"), seen)
        val device = DeviceFacts("Phone", "Android 16")
        val runtime = RuntimeFacts("onnxruntime", "1")
        val report = DeviceReport(bundle.manifest, device, AppFacts("edgekit", "1"), runtime, cases)
        checkReport(JsonFields.of(Json.parse(report.toJson())), bundle)
    },
)

private fun case(id: String, decision: Map<String, Any?>): String = Json.write(
    mapOf(
        "id" to id, "prompt" to "6 5 -> 13", "prompt_token_ids" to listOf(647, 452, 451, 652, 459, 10),
        "marker_bias" to -1.5, "reference" to decision, "quantized_reference" to decision,
    ),
)

private fun checkReport(report: JsonFields, bundle: Bundle) {
    assertEquals(listOf<Any?>("edgekit-device-report", 1L), listOf("format", "version").map { report.members[it] })
    assertEquals(bundle.manifest.sha256, report.fields("bundle").text("manifest_sha256"))
    assertEquals(listOf(1L, 1L), listOf(report.whole("matched"), report.whole("mismatched")))
    val cases = report.list("cases").map { JsonFields.of(it) }
    assertEquals(listOf("MATCH", "MISMATCH"), cases.map { it.text("outcome") })
    val first = cases[0]
    assertEquals(listOf(647, 452, 451, 652, 459, 10), first.tokenIds("prompt_token_ids"))
    assertEquals(listOf(658, 57, 659), first.tokenIds("token_ids"))
    assertEquals(listOf<Any?>(-56.5, -1.5), listOf(first.members["marker_margin"], first.members["marker_bias"]))
    assertTrue(first.number("prefill_ms") >= 0 && first.number("decode_ms") >= 0)
}
