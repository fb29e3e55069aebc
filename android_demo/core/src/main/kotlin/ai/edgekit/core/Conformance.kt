package ai.edgekit.core

import java.io.File
import java.io.IOException

/**
 * What a side made of a prompt: from version 2 on [made] is its response with the marker forbidden, from which the
 * decision at any bias follows; version 1 stored the decision at one bias.
 */
public class RecordedSide private constructor(private val made: Decision, private val isSolo: Boolean) {
    /** The decision at [markerBias]. */
    public fun at(markerBias: Double, routing: RoutingSpec, vocabulary: Vocabulary): Decision =
        if (isSolo) decisionAt(made, markerBias, routing, vocabulary) else made

    public companion object {
        /** Read one. Throws [EdgekitException]. */
        public fun of(fields: JsonFields, version: Long): RecordedSide {
            fields.needs("answer")
            val decision = Decision(
                Route.of(fields.text("route")), fields.text("reason"), fields.text("text"),
                fields.textOrNull("answer"), fields.tokenIds("token_ids"),
            )
            if (version > 1) return RecordedSide(decision.copy(margins = margins(fields)), true)
            fields.needs("marker_margin")
            val margin = fields.numberOrNull("marker_margin") ?: Double.NEGATIVE_INFINITY
            return RecordedSide(decision.copy(markerMargin = margin), false)
        }

        private fun margins(fields: JsonFields): List<MarkerMargin> = fields.list("margins").map { pair ->
            val (position, margin) = (pair as? List<*>)?.takeIf { it.size == 2 } ?: listOf(null, null)
            if (position !is Long || position !in JsonFields.INDICES || margin !is Number) {
                throw EdgekitException("margins: not pairs of a position and a margin", ErrorKind.BAD_FIELD)
            }
            MarkerMargin(position.toInt(), margin.toDouble())
        }
    }
}

/**
 * One real prompt with what the reference and the quantized reference made of it.
 *
 * [markerBias] is that of the artifact when it was exported. Version 1 is replayed at it, later ones at the bias that
 * the bundle ships with.
 */
public class ConformanceCase private constructor(
    private val version: Long,
    public val id: String,
    public val prompt: String,
    public val promptTokenIds: List<Int>,
    public val markerBias: Double,
    public val reference: RecordedSide,
    public val quantizedReference: RecordedSide,
) {
    /** The bias at which a replay has to decide. */
    public fun bias(routing: RoutingSpec): Double = if (version > 1) routing.markerBias else markerBias

    /** What the quantized reference decides there. */
    public fun expected(routing: RoutingSpec, vocabulary: Vocabulary): Decision =
        quantizedReference.at(bias(routing), routing, vocabulary)

    public companion object {
        public const val FILE: String = "conformance.jsonl"
        public const val VERSION: Long = 2L

        /** Read [file], one JSON object a line, blank lines aside. Throws [EdgekitException] naming the first bad. */
        public fun readAll(file: File): List<ConformanceCase> {
            val bytes = try {
                file.upTo(FileLimits.RECORDS).readBytes()
            } catch (error: EdgekitException) {
                throw EdgekitException("unreadable conformance cases: $file. ${error.line}. Export the bundle again.", error.kind)
            } catch (error: IOException) {
                val why = "${error.message}. Export the bundle again."
                throw EdgekitException("unreadable conformance cases: $file. $why", ErrorKind.ABSENT)
            }
            return lines(bytes).mapIndexedNotNull { index, line ->
                try {
                    if (line.all { it.toInt().toChar() in " \t\r" }) null else of(JsonFields.of(Json.parse(line)))
                } catch (error: EdgekitException) {
                    val where = "$file:${index + 1}"
                    val advice = if (error.kind == ErrorKind.NEWER) "Update the app" else "Export the bundle again"
                    throw EdgekitException("bad conformance case: $where. ${error.message}. $advice.", error.kind)
                }
            }
        }

        /** Cut at line breaks only: a raw U+2028 belongs to its text. */
        private fun lines(bytes: ByteArray): List<ByteArray> {
            val ends = bytes.indices.filter { bytes[it] == '\n'.code.toByte() } + bytes.size
            return ends.mapIndexed { index, end -> bytes.copyOfRange(if (index == 0) 0 else ends[index - 1] + 1, end) }
        }

        private fun of(fields: JsonFields): ConformanceCase {
            fields.refuseNewer(VERSION)
            val version = if ("version" in fields) fields.whole("version", 1..VERSION) else 1
            if (version > 1) {
                fields.number("reference_bias")
                listOf("grading_rule", "reference_answer").forEach(fields::textOrNull) // grading is the host's
            }
            return ConformanceCase(
                version, fields.text("id"), fields.text("prompt"), fields.tokenIds("prompt_token_ids"),
                fields.number("marker_bias"), RecordedSide.of(fields.fields("reference"), version),
                RecordedSide.of(fields.fields("quantized_reference"), version),
            )
        }
    }
}
