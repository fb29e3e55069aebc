package ai.edgekit.core

/** What went wrong, in one [word] that Python, Kotlin and Swift share (tests/conformance/documents.json). */
public enum class ErrorKind(public val word: String) {
    BAD_INPUT("bad_input"),
    ABSENT("absent"),
    NOT_JSON("not_json"),
    WRONG_FORMAT("wrong_format"),
    NEWER("newer"),
    BAD_FIELD("bad_field"),
    DAMAGED("damaged"),
    UNSUPPORTED("unsupported"),
    TOO_LONG("too_long"),
    BAD_LOGITS("bad_logits"),
    DEVICE_FAILED("device_failed"),
    BUSY("busy"),
    STOPPED("stopped"),
    OFFLINE("offline"),
    TIMED_OUT("timed_out"),
    UNAUTHORIZED("unauthorized"),
    CLOUD_FAILED("cloud_failed"),
}

/** Anything edgekit refuses or cannot do. The message is one line: what failed, why, what to do. */
public class EdgekitException(message: String, public val kind: ErrorKind = ErrorKind.BAD_INPUT) :
    Exception(oneLine(message)) {
    /** The one line. */
    public val line: String get() = message!!
}

private const val LONGEST = 2000
private const val LONGEST_WORD = 300

/** [message] without line breaks, and without the middle of what is too long: both come with what it quotes. */
private fun oneLine(message: String): String =
    ends(message.split(WHITE_SPACE).joinToString(" ") { ends(it, LONGEST_WORD) }, LONGEST)

private val WHITE_SPACE = Regex("\\s+")

private fun ends(text: String, most: Int): String =
    if (text.length <= most) text else "${text.take(most / 2)}[...]${text.takeLast(most / 2)}"
