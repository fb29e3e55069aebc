package ai.edgekit.core

import java.io.File
import java.io.IOException

/** How an answer stands in the text: between [open] and [close]. */
data class AnswerFormat(val open: String = "<answer>", val close: String = "</answer>")

/** The call-for-cloud marker: its [text], and the token id sequences that count as emitting it. */
data class Marker(val text: String, val tokenIds: List<List<Int>>)

/** routing.json: everything a phone needs to decode a policy's text and see its decision. */
data class RoutingSpec(
    val marker: Marker,
    val answer: AnswerFormat,
    val stopTokenIds: List<Int>,
    val maxNewTokens: Int,
    val promptTemplate: String,
    val markerBias: Double,
    val calibratedCallFraction: Double?,
    val onNoAnswer: Route,
) {
    /** The text the policy continues for the user's [prompt]. */
    fun render(prompt: String): String = promptTemplate.replace("{prompt}", prompt)

    companion object {
        const val VERSION = 1
        private val KNOWN = setOf(
            "version", "marker", "answer", "stop_token_ids", "max_new_tokens", "prompt_template", "marker_bias",
            "calibrated_call_fraction", "on_no_answer",
        )

        /** Read routing.json. Throws [BundleException] naming the fault. */
        fun load(file: File): RoutingSpec = try {
            of(JsonFields.of(Json.parse(file.readText())))
        } catch (error: IOException) {
            throw BundleException("no routing.json: $file. ${error.message}. Export the bundle again.")
        } catch (error: EdgekitException) {
            throw BundleException("bad routing.json: $file. ${error.message}. Export the bundle again.")
        }

        /** The same from a parsed routing.json. Throws [EdgekitException] naming the first fault. */
        fun of(fields: JsonFields): RoutingSpec {
            val version = if ("version" in fields) fields.whole("version") else VERSION.toLong()
            if (version > VERSION) fault("version $version is newer than $VERSION, update the app")
            fields.onlyKnown(KNOWN)
            val marker = fields.fields("marker").let { Marker(it.text("text"), it.tokenIdLists("token_ids")) }
            if (marker.text.isEmpty()) fault("marker.text is empty")
            if (marker.tokenIds.isEmpty() || marker.tokenIds.any { it.isEmpty() }) {
                fault("marker.token_ids holds no sequence or an empty one")
            }
            val template = if ("prompt_template" in fields) fields.text("prompt_template") else "{prompt}"
            if ("{prompt}" !in template) fault("prompt_template lacks {prompt}")
            return RoutingSpec(
                marker = marker,
                answer = if ("answer" in fields) answerFormat(fields.fields("answer")) else AnswerFormat(),
                stopTokenIds = fields.tokenIds("stop_token_ids"),
                maxNewTokens = fields.positive("max_new_tokens"),
                promptTemplate = template,
                markerBias = if ("marker_bias" in fields) fields.number("marker_bias") else 0.0,
                calibratedCallFraction = fields.numberOrNull("calibrated_call_fraction"),
                onNoAnswer = if ("on_no_answer" in fields) Route.of(fields.text("on_no_answer")) else Route.CLOUD,
            )
        }

        private fun answerFormat(fields: JsonFields): AnswerFormat {
            val format = AnswerFormat(fields.text("open"), fields.text("close"))
            if (format.open.isEmpty() || format.close.isEmpty()) fault("answer.open or answer.close is empty")
            return format
        }

        private fun fault(what: String): Nothing = throw EdgekitException(what)
    }
}
