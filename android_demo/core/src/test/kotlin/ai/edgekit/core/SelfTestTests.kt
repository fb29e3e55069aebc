package ai.edgekit.core

import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** A decision of version 1, and the same response as version 2 stores it. */
private val DECISION = mapOf(
    "token_ids" to listOf(658, 57, 659), "route" to "local", "reason" to "answer", "text" to "<answer>9</answer>",
    "answer" to "9", "marker_margin" to -55.0,
)
private val RESPONSE = DECISION - "marker_margin" + ("margins" to listOf(listOf(0, -55.0)))

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
        data.leave("device-report.json", report.toJson())
    },
    "self-test: a calibrated bundle is replayed at its own bias, not at that of its export" to {
        val cases = listOf(
            newCase("kept", RESPONSE),
            newCase("called at the bias that ships", RESPONSE + ("margins" to listOf(listOf(0, 0.5)))),
            newCase("called at that of the export only", RESPONSE + ("margins" to listOf(listOf(0, -1.5)))),
        )
        val bundle = Bundle.open(makeBundle(data, cases))
        assertEquals(0.0, bundle.routing.markerBias)
        val expected = bundle.conformance().map { it.expected(bundle.routing, bundle.vocabulary) }
        assertEquals(listOf("answer", "marker", "answer"), expected.map { it.reason })
        assertEquals(listOf(listOf(658, 57, 659), listOf(660), listOf(658, 57, 659)), expected.map { it.tokenIds })
        val keeps = ScriptedModel(listOf(mapOf(658 to 5f), mapOf(57 to 1f), mapOf(659 to 1f)), 672)
        val stop = StopSignal()
        assertEquals(ErrorKind.STOPPED, refused { SelfTest(bundle, keeps).run(stop) { stop.stop() } }?.kind)
        val reports = SelfTest(bundle, keeps).run()
        assertEquals(listOf(true, false, true), reports.map { it.matches })
        assertEquals(listOf(0.0, 0.0, 0.0), reports.map { it.markerBias })
        val calls = SelfTest(bundle, ScriptedModel(listOf(mapOf(660 to 5f)), 672)).run()
        assertEquals(listOf(false, true, false), calls.map { it.matches })
    },
) + data.bundles.associate { folder ->
    "self-test: out/demo/${folder.name} opens, its prompts give its token ids, its decisions come out again" to {
        realBundle(folder, data)
    }
}

private fun realBundle(folder: File, data: TestData) {
    val bundle = Bundle.open(folder)
    val recorded = bundle.conformance()
    assertTrue(recorded.isNotEmpty())
    val cases = SelfTest(bundle, FollowingModel(bundle, recorded)).run()
    assertEquals(recorded.map { it.promptTokenIds }, cases.map { it.promptTokenIds })
    val expected = recorded.map { it.expected(bundle.routing, bundle.vocabulary) }
    assertEquals(expected.map { it.tokenIds }, cases.map { it.decision.tokenIds })
    assertEquals(expected.map { it.text }, cases.map { it.decision.text })
    assertEquals(0, cases.count { !it.matches })
    val device = DeviceFacts("no phone", System.getProperty("os.name"))
    val runtime = RuntimeFacts("recorded tokens", "1")
    val report = DeviceReport(bundle.manifest, device, AppFacts("edgekit tests", "1"), runtime, cases)
    data.leave("device-report-${folder.name}.json", report.toJson())
}

/** Wants, after each prompt, exactly the tokens that follow from what was recorded for it. */
private class FollowingModel(private val bundle: Bundle, recorded: List<ConformanceCase>) : StepModel {
    private val wanted =
        recorded.associate { it.promptTokenIds to it.expected(bundle.routing, bundle.vocabulary).tokenIds }
    private var following = emptyList<Int>()
    private var at = 0

    override val contextLength = bundle.manifest.model.contextLength

    override fun reset() {
        at = 0
    }

    override fun prefill(tokenIds: IntArray): FloatArray {
        following = wanted.getValue(tokenIds.toList())
        return logits()
    }

    override fun decode(tokenId: Int): FloatArray {
        at++
        return logits()
    }

    private fun logits() = FloatArray(bundle.manifest.model.vocabSize).also { it[following[at]] = 1000f }
}

private fun case(id: String, decision: Map<String, Any?>): String = Json.write(
    mapOf(
        "id" to id, "prompt" to "6 5 -> 13", "prompt_token_ids" to listOf(647, 452, 451, 652, 459, 10),
        "marker_bias" to -1.5, "reference" to decision, "quantized_reference" to decision,
    ),
)

private fun newCase(id: String, response: Map<String, Any?>): String = Json.write(
    mapOf(
        "version" to 2, "id" to id, "prompt" to "6 5 -> 13", "prompt_token_ids" to listOf(647, 452, 451, 652, 459, 10),
        "reference_bias" to 0.0, "marker_bias" to 2.0, "reference" to response, "quantized_reference" to response,
    ),
)

private fun checkReport(report: JsonFields, bundle: Bundle) {
    assertEquals(listOf<Any?>("edgekit-device-report", 1L), listOf("format", "version").map { report.members[it] })
    assertEquals(bundle.manifest.sha256, report.fields("bundle").text("manifest_sha256"))
    assertEquals(listOf(1, 1), listOf(report.index("matched"), report.index("mismatched")))
    val cases = report.list("cases").map { JsonFields.of(it) }
    assertEquals(listOf("MATCH", "MISMATCH"), cases.map { it.text("outcome") })
    val first = cases[0]
    assertEquals(listOf(647, 452, 451, 652, 459, 10), first.tokenIds("prompt_token_ids"))
    assertEquals(listOf(658, 57, 659), first.tokenIds("token_ids"))
    assertEquals(listOf<Any?>(-56.5, -1.5), listOf(first.members["marker_margin"], first.members["marker_bias"]))
    assertTrue(first.number("prefill_ms") >= 0 && first.number("decode_ms") >= 0)
}
