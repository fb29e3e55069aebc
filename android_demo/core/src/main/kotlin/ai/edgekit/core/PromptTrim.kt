package ai.edgekit.core

/** At which ends of a prompt white space is dropped before it is put into the template: what a chat template does. */
public enum class PromptTrim(public val text: String) {
    NONE("none"),
    BOTH("both"),
    START("start"),
    END("end"),
    ;

    /** [prompt] without white space at the ends that this names. */
    public fun trimmed(prompt: String): String {
        val start = if (this == BOTH || this == START) prompt.trimStart { it in WHITE_SPACE } else prompt
        return if (this == BOTH || this == END) start.trimEnd { it in WHITE_SPACE } else start
    }

    public companion object {
        /** What Python's str.strip drops, which Jinja's trim is. */
        private const val WHITE_SPACE =
            "\t\n\u000b\u000c\r\u001c\u001d\u001e\u001f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005" +
                "\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

        /** The one that [text] names. Throws [EdgekitException]. */
        public fun of(text: String): PromptTrim = entries.firstOrNull { it.text == text }
            ?: throw EdgekitException("prompt_trim: $text", ErrorKind.BAD_FIELD)
    }
}
