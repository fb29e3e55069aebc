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
        fun of(fields: JsonFields): RecordedDecision {
            fields.needs("answer", "marker_margin")
            return RecordedDecision(
                fields.tokenIds("token_ids"), Route.of(fields.text("route")), fields.text("reason"),
                fields.text("text"), fields.textOrNull("answer"), fields.numberOrNull("marker_margin"),
            )
        }
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

        /** Read [file], one JSON object a line, blank lines aside. Throws [EdgekitException] naming the first bad line. */
        fun readAll(file: File): List<ConformanceCase> {
            val bytes = try {
                file.readBytes()
            } catch (error: IOException) {
                val why = "${error.message}. Export the bundle again."
                throw EdgekitException("unreadable conformance cases: $file. $why", ErrorKind.ABSENT)
            }
            return lines(bytes).mapIndexedNotNull { index, line ->
                try {
                    if (line.all { it.toInt().toChar() in " \t\r" }) null else of(JsonFields.of(Json.parse(line)))
                } catch (error: EdgekitException) {
                    val where = "$file:${index + 1}"
                    val why = "${error.message}. Export the bundle again."
                    throw EdgekitException("bad conformance case: $where. $why", error.kind)
                }
            }
        }

        /** Cut at line breaks only: a raw U+2028 belongs to its text. */
        private fun lines(bytes: ByteArray): List<ByteArray> {
            val ends = bytes.indices.filter { bytes[it] == '\n'.code.toByte() } + bytes.size
            return ends.mapIndexed { index, end -> bytes.copyOfRange(if (index == 0) 0 else ends[index - 1] + 1, end) }
        }

        private fun of(fields: JsonFields): ConformanceCase = ConformanceCase(
            fields.text("id"), fields.text("prompt"), fields.tokenIds("prompt_token_ids"), fields.number("marker_bias"),
            RecordedDecision.of(fields.fields("reference")), RecordedDecision.of(fields.fields("quantized_reference")),
        )
    }
}
