package ai.edgekit.core

import java.io.File
import java.io.IOException

/** A decision as stored in conformance.jsonl; [markerMargin] is null if it was not a finite number. */
data class RecordedDecision(
    val tokenIds: List<Int>,
    val route: Route,
    val reason: String,
    val text: String,
    val answer: String?,
    val markerMargin: Double?,
) {
    /** Whether [decision] is the same: route, reason and answer. Its tokens may differ. */
    fun agreesWith(decision: Decision): Boolean =
        route == decision.route && reason == decision.reason && answer == decision.answer

    companion object {
        /** Read one. Throws [EdgekitException]. */
        fun of(fields: JsonFields): RecordedDecision = RecordedDecision(
            fields.tokenIds("token_ids"), Route.of(fields.text("route")), fields.text("reason"), fields.text("text"),
            fields.textOrNull("answer"), fields.numberOrNull("marker_margin"),
        )
    }
}

/**
 * One real prompt with the decisions of the reference and of the quantized reference.
 *
 * [markerBias] is the artifact's and its quantized reference's; a replay must use it.
 */
data class ConformanceCase(
    val id: String,
    val prompt: String,
    val promptTokenIds: List<Int>,
    val markerBias: Double,
    val reference: RecordedDecision,
    val quantizedReference: RecordedDecision,
) {
    companion object {
        const val FILE = "conformance.jsonl"

        /** Read [file]. Throws [BundleException] naming the first bad line. */
        fun readAll(file: File): List<ConformanceCase> {
            val lines = try {
                file.readLines()
            } catch (error: IOException) {
                throw BundleException("unreadable conformance cases: $file. ${error.message}. Export the bundle again.")
            }
            return lines.mapIndexed { index, line ->
                try {
                    of(JsonFields.of(Json.parse(line)))
                } catch (error: EdgekitException) {
                    val where = "$file:${index + 1}"
                    throw BundleException("bad conformance case: $where. ${error.message}. Export the bundle again.")
                }
            }
        }

        private fun of(fields: JsonFields): ConformanceCase = ConformanceCase(
            fields.text("id"), fields.text("prompt"), fields.tokenIds("prompt_token_ids"), fields.number("marker_bias"),
            RecordedDecision.of(fields.fields("reference")), RecordedDecision.of(fields.fields("quantized_reference")),
        )
    }
}
