package ai.edgekit.core

/** What the device did with one conformance case. Times in milliseconds. */
public data class CaseReport(
    val id: String,
    val promptTokenIds: List<Int>,
    val decision: Decision,
    val markerBias: Double,
    val matches: Boolean,
    val prefillMs: Double,
    val decodeMs: Double,
) {
    internal fun toMap(): Map<String, Any?> = linkedMapOf(
        "id" to id,
        "prompt_token_ids" to promptTokenIds,
        "token_ids" to decision.tokenIds,
        "route" to decision.route.text,
        "reason" to decision.reason,
        "text" to decision.text,
        "answer" to decision.answer,
        "marker_margin" to decision.markerMargin.takeIf { it.isFinite() },
        "marker_bias" to markerBias,
        "outcome" to if (matches) "MATCH" else "MISMATCH",
        "prefill_ms" to prefillMs,
        "decode_ms" to decodeMs,
    )
}

/** The phone it ran on. */
public data class DeviceFacts(val model: String, val os: String)

/** The app it ran in. */
public data class AppFacts(val name: String, val version: String)

/** What `edgekit verify --device-report` reads: which bundle, on which device, and every case's decision. */
public data class DeviceReport(
    val manifest: BundleManifest,
    val device: DeviceFacts,
    val app: AppFacts,
    val runtime: RuntimeFacts,
    val cases: List<CaseReport>,
) {
    val matched: Int get() = cases.count { it.matches }
    val mismatched: Int get() = cases.size - matched

    /** The report's JSON text. */
    public fun toJson(): String = Json.write(
        linkedMapOf(
            "format" to "edgekit-device-report",
            "version" to 1,
            "bundle" to linkedMapOf(
                "manifest_sha256" to manifest.sha256,
                "target" to manifest.target,
                "recipe" to manifest.recipeName,
            ),
            "device" to linkedMapOf("model" to device.model, "os" to device.os),
            "app" to linkedMapOf("name" to app.name, "version" to app.version),
            "runtime" to linkedMapOf("name" to runtime.name, "version" to runtime.version),
            "cases" to cases.map { it.toMap() },
            "matched" to matched,
            "mismatched" to mismatched,
        ),
    ) + "\n"
}
