package ai.edgekit.core

import java.io.File
import java.io.IOException

/** How an answer stands in the text: between [open] and [close]. */
public data class AnswerFormat(val open: String = "<answer>", val close: String = "</answer>")

/** The call-for-cloud marker: its [text], and the token id sequences that count as emitting it. */
public data class Marker(val text: String, val tokenIds: List<List<Int>>)

/**
 * On what the marker bias was fitted: [n] problems of a task's split; [reachedFraction] of them, in [interval], call at
 * [markerBias].
 */
public data class CalibrationFacts(
    val task: String,
    val split: String,
    val n: Int,
    val seed: Long,
    val reachedFraction: Double,
    val interval: List<Double>,
    val markerBias: Double,
) {
    public companion object {
        private const val LARGEST_WHOLE = 1L shl 53

        /** Read one. Throws [EdgekitException] naming the first fault. */
        public fun of(fields: JsonFields): CalibrationFacts {
            fields.onlyKnown("task", "split", "n", "seed", "reached_fraction", "interval", "marker_bias")
            val reached = fields.number("reached_fraction")
            val interval = fields.list("interval").map { (it as? Number)?.toDouble() ?: Double.NaN }
            if (interval.size != 2 || !(interval + reached).all { it in 0.0..1.0 }) {
                throw EdgekitException("calibration: its shares are none", ErrorKind.BAD_FIELD)
            }
            val seed = fields.whole("seed", -LARGEST_WHOLE..LARGEST_WHOLE)
            return CalibrationFacts(
                fields.text("task"), fields.text("split"), fields.count("n"), seed, reached, interval,
                fields.number("marker_bias"),
            )
        }
    }
}

/** [prompt] in each place of [template] that is for it. */
internal fun promptParts(template: String, prompt: String): List<PromptPart> {
    val words = template.split(PROMPT).map { PromptPart(it, isUser = false) }
    return words.take(1) + words.drop(1).flatMap { listOf(PromptPart(prompt, isUser = true), it) }
}

private const val PROMPT = "{prompt}"

/** How often a template may repeat the prompt: what it makes of a long one must not fill the memory. */
private const val MOST_PROMPTS = 8

/** routing.json: everything a phone needs to decode a policy's text and see its decision. */
public data class RoutingSpec(
    val marker: Marker,
    val answer: AnswerFormat,
    val stopTokenIds: List<Int>,
    val maxNewTokens: Int,
    val promptTemplate: String,
    val markerBias: Double,
    val calibratedCallFraction: Double?,
    val calibration: CalibrationFacts?,
    val onNoAnswer: Route,
    val promptTrim: PromptTrim = PromptTrim.NONE,
) {
    /** What the policy continues for the user's [prompt]: the template around it, told apart from it. */
    public fun parts(prompt: String): List<PromptPart> = promptParts(promptTemplate, promptTrim.trimmed(prompt))

    /** Whether the prompt template leaves a thought open, so that a response begins within it. */
    val beginsInThought: Boolean
        get() {
            val before = promptTemplate.substringAfterLast(PROMPT)
            return before.lastIndexOf(THOUGHT_OPEN) > before.lastIndexOf(THOUGHT_CLOSE)
        }

    /** The texts that the decoder must see, special tokens or not: the marker, an answer's and a thought's ends. */
    val delimiters: Set<String> get() = setOf(marker.text, answer.open, answer.close, THOUGHT_OPEN, THOUGHT_CLOSE)

    public companion object {
        public const val VERSION: Long = 2L

        /** What a policy thinks stands between them. */
        public const val THOUGHT_OPEN: String = "<think>"
        public const val THOUGHT_CLOSE: String = "</think>"

        /** Read routing.json. Throws [EdgekitException] naming the fault. */
        public fun load(file: File): RoutingSpec = try {
            of(JsonFields.of(file.upTo(FileLimits.DOCUMENT).inputStream().use(Json::parse)))
        } catch (error: IOException) {
            throw EdgekitException("no routing.json: $file. ${error.message}. Check the path.", ErrorKind.ABSENT)
        } catch (error: EdgekitException) {
            val advice = if (error.kind == ErrorKind.NEWER) "Update the app" else "Export the bundle again"
            throw EdgekitException("bad routing.json: $file. ${error.message}. $advice.", error.kind)
        }

        /** The same from a parsed routing.json. Throws [EdgekitException] naming the first fault. */
        public fun of(fields: JsonFields): RoutingSpec {
            fields.refuseNewer(VERSION)
            fields.onlyKnown(
                "version", "marker", "answer", "stop_token_ids", "max_new_tokens", "prompt_template", "prompt_trim",
                "marker_bias", "calibrated_call_fraction", "calibration", "on_no_answer",
            )
            if ("version" in fields) fields.whole("version", 1..VERSION)
            val marker = fields.fields("marker").also { it.onlyKnown("text", "token_ids") }
            val ids = marker.tokenIdLists("token_ids")
            if (ids.isEmpty() || ids.any { it.isEmpty() }) fault("marker.token_ids: no sequence, or an empty one")
            val template = if ("prompt_template" in fields) fields.text("prompt_template") else PROMPT
            val prompts = template.split(PROMPT).size - 1
            if (prompts !in 1..MOST_PROMPTS) fault("prompt_template: $PROMPT stands in it $prompts times, not 1 to $MOST_PROMPTS")
            return RoutingSpec(
                marker = Marker(marker.filled("text"), ids),
                answer = if ("answer" in fields) answerFormat(fields.fields("answer")) else AnswerFormat(),
                stopTokenIds = fields.tokenIds("stop_token_ids"),
                maxNewTokens = fields.count("max_new_tokens"),
                promptTemplate = template,
                promptTrim = if ("prompt_trim" in fields) PromptTrim.of(fields.text("prompt_trim")) else PromptTrim.NONE,
                markerBias = if ("marker_bias" in fields) fields.number("marker_bias") else 0.0,
                calibratedCallFraction = fields.numberOrNull("calibrated_call_fraction"),
                calibration = if (fields.members["calibration"] == null) null else CalibrationFacts.of(fields.fields("calibration")),
                onNoAnswer = if ("on_no_answer" in fields) Route.of(fields.text("on_no_answer")) else Route.CLOUD,
            )
        }

        private fun answerFormat(fields: JsonFields): AnswerFormat {
            fields.onlyKnown("open", "close")
            val usual = AnswerFormat()
            return AnswerFormat(
                if ("open" in fields) fields.filled("open") else usual.open,
                if ("close" in fields) fields.filled("close") else usual.close,
            )
        }

        private fun fault(what: String): Nothing = throw EdgekitException(what, ErrorKind.BAD_FIELD)
    }
}
