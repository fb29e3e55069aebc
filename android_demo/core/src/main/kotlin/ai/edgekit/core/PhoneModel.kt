package ai.edgekit.core

/** A bundle's artifact in the runtime it was made for. */
public interface PhoneModel : StepModel, AutoCloseable {
    /** What runs it. */
    public val runtime: RuntimeFacts
}

/** What a runtime refused of the file at [path], in one line. */
public fun loadFailure(path: String, error: Throwable): EdgekitException {
    if (error is EdgekitException) return error
    val reason = deviceFailed(error).line.removePrefix("device failed: ").substringBefore(". The phone could not")
    val why = "cannot load $path: $reason. Its runtime is newer, or the file is damaged. Export again."
    return EdgekitException(why, ErrorKind.DEVICE_FAILED)
}
