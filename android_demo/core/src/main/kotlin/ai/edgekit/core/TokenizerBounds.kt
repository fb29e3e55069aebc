package ai.edgekit.core

/** What a foreign tokenizer may cost: how much longer it can make a text, and how far added tokens are looked for. */
internal object TokenizerBounds {
    private const val MOST_STEPS = 32
    private const val MOST_GROWTH = 64.0
    private const val LONGEST_ADDED = 256

    /** Unicode's own largest expansions, in characters. */
    private val GROWS = mapOf("NFD" to 4.0, "NFKC" to 18.0, "NFKD" to 18.0)

    /** Refuse [file], whose steps are known here, if it may make too much of a text. */
    fun check(file: TokenizerFile) {
        val steps = file.steps("normalizer") + file.steps("pre_tokenizer")
        if (steps.size > MOST_STEPS || steps.fold(1.0) { length, step -> length * growth(step) } > MOST_GROWTH) {
            refuse("its steps make a text more than ${MOST_GROWTH.toInt()} times as long, or are more than $MOST_STEPS")
        }
        val longest = file.addedTokens.maxOfOrNull { characters(it.content) } ?: 0
        if (longest > LONGEST_ADDED) refuse("an added token has $longest characters, more than $LONGEST_ADDED")
    }

    private fun growth(step: JsonFields): Double = when (val type = step.text("type")) {
        "Prepend" -> 1.0 + characters(step.text("prepend")) / 16.0
        "Replace" -> {
            val old = characters(step.fields("pattern").text("String"))
            maxOf(1.0, characters(step.text("content")).toDouble() / old)
        }
        else -> GROWS[type] ?: 1.0
    }

    private fun characters(text: String) = text.codePointCount(0, text.length)

    private fun refuse(why: String): Nothing = throw EdgekitException(why, ErrorKind.UNSUPPORTED)
}
