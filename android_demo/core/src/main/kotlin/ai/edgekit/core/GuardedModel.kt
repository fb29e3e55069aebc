package ai.edgekit.core

import java.util.concurrent.ExecutionException
import java.util.concurrent.FutureTask
import java.util.concurrent.TimeUnit
import java.util.concurrent.TimeoutException

/** Says that the user wants no answer any more: [stop] was called, or [isGone] holds. One for each prompt. */
public class StopSignal(private val isGone: () -> Boolean = { false }) {
    @Volatile
    private var isSet = false

    public fun stop() {
        isSet = true
    }

    /** Throws [EdgekitException] (STOPPED) once [stop] was called. */
    public fun check() {
        if (isSet || isGone()) throw EdgekitException("stopped: you stopped this prompt. Ask again.", ErrorKind.STOPPED)
    }
}

/**
 * What [work] returns or throws, done on a thread of its own: a network's reads cannot be interrupted, and a question
 * may never be answered. Once [stop] holds, this one throws [EdgekitException] (STOPPED), and after [limitMs]
 * [TimeoutException]; the other is interrupted and left to end by itself.
 */
internal fun <T> heeding(stop: StopSignal, limitMs: Long = Long.MAX_VALUE, work: () -> T): T {
    val task = FutureTask(work)
    Thread(task, "edgekit-waiting").apply { isDaemon = true }.start()
    val begin = System.nanoTime()
    try {
        while (true) {
            stop.check()
            try {
                return task.get(minOf(LOOK_MS, limitMs), TimeUnit.MILLISECONDS)
            } catch (late: TimeoutException) {
                if ((System.nanoTime() - begin) / NS_A_MS >= limitMs) throw late
            }
        }
    } catch (failure: ExecutionException) {
        throw failure.cause ?: failure
    } finally {
        task.cancel(true)
    }
}

/** How often it is looked whether the user still waits. */
private const val LOOK_MS = 50L
private const val NS_A_MS = 1_000_000

/**
 * [model] as a session needs it: whatever its runtime throws is one line (DEVICE_FAILED), logits are one number a
 * token of [vocabSize], and [stop] is heeded between two tokens and between [chunk] tokens of a long prompt.
 */
internal class GuardedModel(
    private val model: StepModel,
    private val vocabSize: Int,
    private val stop: StopSignal = StopSignal(),
    private val chunk: Int = 256,
) : StepModel {
    override val contextLength: Int get() = model.contextLength

    override fun reset() = guarded { model.reset() }

    override fun prefill(tokenIds: IntArray): FloatArray {
        var logits = FloatArray(0)
        for (begin in 0..maxOf(0, tokenIds.size - 1) step chunk) {
            val part = tokenIds.copyOfRange(begin, minOf(begin + chunk, tokenIds.size))
            logits = logits { model.prefill(part) }
        }
        return logits
    }

    override fun decode(tokenId: Int): FloatArray = logits { model.decode(tokenId) }

    private fun logits(step: () -> FloatArray): FloatArray {
        stop.check()
        val logits = guarded(step)
        if (logits.size != vocabSize) {
            val why = "The model gave ${logits.size}, its vocabulary has $vocabSize"
            throw EdgekitException("bad logits: wrong length. $why. Export the bundle again.", ErrorKind.BAD_LOGITS)
        }
        return logits
    }

    private fun <T> guarded(step: () -> T): T = try {
        step()
    } catch (error: EdgekitException) {
        throw error
    } catch (error: Exception) {
        throw deviceFailed(error)
    } catch (error: OutOfMemoryError) {
        throw deviceFailed(error)
    } catch (error: LinkageError) { // a native library that is not there
        throw deviceFailed(error)
    }
}

/** Any failure of the device as one line. */
public fun deviceFailed(error: Throwable): EdgekitException {
    if (error is EdgekitException) return error
    val said = error.message.orEmpty().replace(Regex("\\s+"), " ").trim().trimEnd('.').take(MOST_SAID)
    val what = error.javaClass.simpleName + if (said.isEmpty()) "" else ": $said"
    return EdgekitException("device failed: $what. The phone could not do it. Ask again.", ErrorKind.DEVICE_FAILED)
}

private const val MOST_SAID = 160
