package ai.edgekit.core

import java.util.concurrent.TimeoutException
import java.util.concurrent.atomic.AtomicBoolean
import java.util.concurrent.atomic.AtomicReference

/** What the user sees while a prompt is answered. */
public interface HybridListener {
    /** More visible text. */
    public fun onText(text: String)

    /** What was shown so far is void: another answer begins. */
    public fun onRestart()
}

/**
 * What the user gets.
 *
 * [route] says which side answered. [reason]: answer (kept), marker or no_answer (handed off or, with
 * on_no_answer local, kept), and where a hand-off was due but the device answered: offline (no cloud,
 * no network, or the cloud failed), budget (spent), consent (refused). A prompt that the device cannot answer is due
 * too: too_long, device_failed. [notice] says more, for the user; [failure] is the kind of what went wrong, if any did.
 */
public data class HybridAnswer(
    val route: Route,
    val reason: String,
    val text: String,
    val answer: String?,
    val markerMargin: Double,
    val promptTokens: Int,
    val generatedTokens: Int,
    val localMs: Double,
    val cloudMs: Double?,
    val notice: String?,
    val failure: ErrorKind? = null,
)

/** What must hold before a prompt may leave the phone. */
public class HandOffRules(
    public val consent: Consent = Consent.ASK,
    /** What must not leave is replaced in the user's words before the request is made. */
    public val redact: (String) -> String = { it },
    /** Keeps what is about to be sent. A request that cannot be kept is not sent. */
    public val log: (CloudRequest) -> Unit = {},
    /** How long the user has to answer, in milliseconds; who has not by then refuses. */
    public val consentMs: Long = 120_000,
)

/**
 * Answers prompts by device or cloud. A prompt leaves the phone at most once, as one frozen request: made when the
 * policy calls, shown to [mayLeave], logged, counted in the [budget], sent. [isOnline] and the budget are looked at
 * first, so that nobody is asked in vain. [mayLeave] is called on a thread of its own, which is interrupted once the
 * question is void: after [HandOffRules.consentMs], or when the prompt is stopped.
 */
public class HybridSession(
    private val bundle: Bundle,
    private val model: StepModel,
    private val cloud: Cloud? = null,
    private val budget: CloudBudget = CloudBudget(0.3),
    private val rules: HandOffRules = HandOffRules(),
    private val isOnline: () -> Boolean = { true },
    private val mayLeave: (CloudRequest) -> Boolean = { false },
) {
    private val isAsking = AtomicBoolean()

    /**
     * Decide [prompt] on the device and ask the cloud if the policy calls and may. Blocks; use a worker thread.
     *
     * Throws [EdgekitException]: BUSY, STOPPED, or what kept both sides from an answer.
     */
    public fun ask(prompt: String, listener: HybridListener, stop: StopSignal = StopSignal()): HybridAnswer {
        if (!isAsking.compareAndSet(false, true)) {
            val why = "One prompt is being answered, a model takes one at a time"
            throw EdgekitException("busy: another prompt. $why. Wait for it.", ErrorKind.BUSY)
        }
        try {
            return Run(prompt, listener, stop).answer()
        } finally {
            isAsking.set(false)
        }
    }

    /** One prompt on its way. */
    private inner class Run(
        private val prompt: String,
        private val listener: HybridListener,
        private val stop: StopSignal,
    ) {
        private val model = GuardedModel(this@HybridSession.model, bundle.manifest.model.vocabSize, stop)
        private var first: Decision? = null
        private var tokens = 0
        private var localMs = 0.0
        private val stage = AtomicReference(Stage.HERE)

        fun answer(): HybridAnswer {
            val failure = try {
                first = decide(null)
                null
            } catch (error: EdgekitException) {
                if (error.kind !in DEVICE_CANNOT) throw error
                error
            }
            val decision = first
            if (decision != null && !decision.called) {
                budget.record(false)
                return kept(decision.reason, decision, null, null)
            }
            val reason = decision?.reason ?: if (failure?.kind == ErrorKind.TOO_LONG) "too_long" else "device_failed"
            return try {
                handOff(reason)
            } catch (refusal: NotSent) {
                alone(refusal, failure)
            } finally {
                stage.compareAndSet(Stage.HERE, Stage.KEPT)
                budget.record(stage.get() == Stage.LEFT)
            }
        }

        private fun handOff(reason: String): HybridAnswer {
            if (cloud == null) {
                throw NotSent("offline", "no cloud: none. Nobody to hand off to. Name one in the settings.")
            }
            if (rules.consent == Consent.NEVER) {
                throw NotSent("consent", "not sent: ${cloud.name}. Prompts stay here. Allow it in the settings.")
            }
            if (!isOnline()) {
                throw NotSent("offline", "no network: ${cloud.name}. The device answers. Ask again when online.")
            }
            if (budget.left == 0) {
                val spent = "budget spent: ${budget.allowed} of ${budget.window} prompts"
                throw NotSent("budget", "$spent. The device answers. Raise it or wait.")
            }
            stop.check()
            val request = cloud.request(rules.redact(prompt))
            if (rules.consent == Consent.ASK) askFor(request, cloud.name)
            stop.check()
            val begin = System.nanoTime()
            var shown: String? = null
            val answer = try {
                rules.log(request)
                heeding(stop) {
                    cloud.send(request, ::leave) { piece ->
                        stop.check()
                        if (shown == null) listener.onRestart()
                        shown = shown.orEmpty() + piece
                        listener.onText(piece)
                    }
                }
            } catch (error: Exception) {
                val told = deviceFailed(error)
                if (told.kind == ErrorKind.STOPPED) throw told
                throw NotSent("offline", told.line, told.kind)
            }
            stop.check()
            if (shown != answer) {
                listener.onRestart()
                listener.onText(answer)
            }
            return HybridAnswer(
                Route.CLOUD, reason, answer, answer, margin, first?.promptTokens ?: 0, tokens, localMs, since(begin),
                null,
            )
        }

        /** Returns if the user lets [request] go to [cloud]. */
        private fun askFor(request: CloudRequest, cloud: String) {
            val may = try {
                heeding(stop, rules.consentMs) { mayLeave(request) }
            } catch (_: TimeoutException) {
                throw NotSent("consent", "not sent: $cloud. Nobody answered in time. The device does.")
            }
            if (!may) throw NotSent("consent", "not sent: $cloud. You kept the prompt here. The device answers.")
        }

        /** The last moment before the request leaves; none leaves once the prompt was given up. */
        private fun leave() {
            if (!stage.compareAndSet(Stage.HERE, Stage.LEFT)) stop.check()
        }

        /** The hand-off did not happen: the device's own answer, its marker forbidden, if it can give one. */
        private fun alone(refusal: NotSent, failure: EdgekitException?): HybridAnswer {
            if (failure != null) {
                throw EdgekitException("${failure.line} And no hand-off: ${refusal.notice}", failure.kind)
            }
            listener.onRestart()
            return kept(refusal.reason, decide(Double.NEGATIVE_INFINITY), refusal.notice, refusal.kind)
        }

        private fun kept(reason: String, own: Decision, notice: String?, failure: ErrorKind?) = HybridAnswer(
            Route.LOCAL, reason, own.text, own.answer, margin, own.promptTokens, tokens, localMs, null, notice, failure,
        )

        private val margin: Double get() = first?.markerMargin ?: Double.NEGATIVE_INFINITY

        private fun decide(bias: Double?): Decision {
            val begin = System.nanoTime()
            try {
                val ids = bundle.encode(prompt)
                val session = DecodeSession(
                    bundle.routing, bundle.vocabulary, ids.size, model.contextLength, bias, listener::onText,
                )
                return decode(model, ids, session).also { tokens += it.tokenIds.size }
            } finally {
                localMs += since(begin)
            }
        }
    }

    /** Where a prompt's request is: not gone yet, sent, or given up before it was. */
    private enum class Stage { HERE, LEFT, KEPT }

    /** The cloud was not asked, or did not answer; [reason] and [notice] are for the user. */
    private class NotSent(val reason: String, val notice: String, val kind: ErrorKind? = null) : Exception(notice)

    private fun since(begin: Long): Double = (System.nanoTime() - begin) / 1e6

    private companion object {
        /** What the device cannot answer, and a cloud may. */
        val DEVICE_CANNOT = setOf(ErrorKind.TOO_LONG, ErrorKind.DEVICE_FAILED, ErrorKind.BAD_LOGITS)
    }
}
