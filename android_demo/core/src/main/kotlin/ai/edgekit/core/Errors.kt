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
public class EdgekitException(message: String, public val kind: ErrorKind = ErrorKind.BAD_INPUT) : Exception(message) {
    /** The one line. */
    public val line: String get() = message!!
}
