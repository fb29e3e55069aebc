package ai.edgekit.core

/**
 * How often prompts may go to the cloud: at most [share] of any [window] prompts in a row.
 *
 * [history] says for each of the last prompts whether it left the phone, the newest last; keep it across
 * starts of the app, or the budget begins anew.
 */
class CloudBudget(val share: Double, val window: Int = 20, history: List<Boolean> = emptyList()) {
    init {
        if (share !in 0.0..1.0 || window < 1) {
            throw EdgekitException("bad budget: $share of $window prompts. Give a share of 0 to 1 and a window from 1.")
        }
    }

    private val recent = ArrayDeque(history.takeLast(window - 1))

    val history: List<Boolean> get() = recent.toList()

    /** Calls in all that [window] prompts may make. A share of 0.3 of 10 is 3 although 0.3 * 10 may fall short. */
    val allowed: Int get() = (share * window + 1e-9).toInt()

    /** How many more prompts may go to the cloud now. */
    val left: Int get() = maxOf(0, allowed - recent.count { it })

    /** Note one prompt; [left] counts it from now on. */
    fun record(leftThePhone: Boolean) {
        recent.addLast(leftThePhone)
        while (recent.size > window - 1) recent.removeFirst()
    }
}

/** What the user sees while a prompt is answered. */
interface HybridListener {
    /** More visible text. */
    fun onText(text: String)

    /** What was shown so far is void: another answer begins. */
    fun onRestart()
}

/**
 * What the user gets.
 *
 * [route] says which side answered. [reason]: answer (kept), marker or no_answer (handed off or, with
 * on_no_answer local, kept), and where a hand-off was due but the device answered: offline (no cloud,
 * no network, or the cloud failed), budget (spent), consent (refused). [notice] says more, for the user.
 */
data class HybridAnswer(
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
)

/**
 * Answers prompts by device or cloud. A prompt leaves the phone at most once, and only after [mayLeave]
 * said yes to it; [isOnline] and the [budget] are looked at first, so that nobody is asked in vain.
 */
class HybridSession(
    private val bundle: Bundle,
    private val model: StepModel,
    private val cloud: Cloud?,
    private val budget: CloudBudget,
    private val isOnline: () -> Boolean,
    private val mayLeave: (String) -> Boolean,
) {
    /** Decide [prompt] on the device and ask the cloud if the policy calls and may. Blocks; use a worker thread. */
    fun ask(prompt: String, listener: HybridListener): HybridAnswer {
        val begin = System.nanoTime()
        val decision = decide(prompt, null, listener)
        val localMs = since(begin) // before anyone is asked: the user's own time is not the device's
        if (!decision.called) {
            budget.record(false)
            return kept(decision, decision, decision.reason, null, localMs)
        }
        val refusal = refusal(prompt)
        budget.record(refusal == null)
        if (refusal != null) return alone(prompt, decision, refusal.first, refusal.second, listener, localMs)
        val asked = System.nanoTime()
        val answer = try {
            cloud!!.answer(prompt)
        } catch (error: EdgekitException) {
            return alone(prompt, decision, "offline", error.message!!, listener, localMs)
        }
        listener.onRestart()
        listener.onText(answer)
        return HybridAnswer(
            Route.CLOUD, decision.reason, answer, answer, decision.markerMargin, decision.promptTokens,
            decision.tokenIds.size, localMs, since(asked), null,
        )
    }

    /** Why the prompt may not leave the phone, as a reason and a notice; null if it may. */
    private fun refusal(prompt: String): Pair<String, String>? = when {
        cloud == null -> "offline" to "no cloud: none. Nobody to hand off to. Name one in the settings."
        !isOnline() -> "offline" to "no network: ${cloud.name}. The device answers. Ask again when online."
        budget.left == 0 -> "budget" to
            "budget spent: ${budget.allowed} of ${budget.window} prompts. The device answers. Raise it or wait."
        !mayLeave(prompt) -> "consent" to "not sent: ${cloud.name}. You kept the prompt here. The device answers."
        else -> null
    }

    /** The device's own answer, its marker forbidden. */
    private fun alone(
        prompt: String,
        decision: Decision,
        reason: String,
        notice: String,
        listener: HybridListener,
        decisionMs: Double,
    ): HybridAnswer {
        listener.onRestart()
        val begin = System.nanoTime()
        val own = decide(prompt, Double.NEGATIVE_INFINITY, listener)
        return kept(decision, own, reason, notice, decisionMs + since(begin))
    }

    private fun kept(decision: Decision, own: Decision, reason: String, notice: String?, ms: Double): HybridAnswer {
        val tokens = decision.tokenIds.size + if (own === decision) 0 else own.tokenIds.size
        return HybridAnswer(
            Route.LOCAL, reason, own.text, own.answer, decision.markerMargin, decision.promptTokens, tokens,
            ms, null, notice,
        )
    }

    private fun decide(prompt: String, bias: Double?, listener: HybridListener): Decision {
        val ids = bundle.encode(prompt)
        val session =
            DecodeSession(bundle.routing, bundle.vocabulary, ids.size, model.contextLength, bias, listener::onText)
        return decode(model, ids, session)
    }

    private fun since(begin: Long): Double = (System.nanoTime() - begin) / 1e6
}
