package ai.edgekit.core

/**
 * How often prompts may go to the cloud: at most [share] of any [window] prompts in a row.
 *
 * [history] says for each of the last prompts whether it left the phone, the newest last; keep it across
 * starts of the app, or the budget begins anew.
 */
public class CloudBudget(public val share: Double, public val window: Int = 20, history: List<Boolean> = emptyList()) {
    init {
        if (share !in 0.0..1.0 || window < 1) {
            throw EdgekitException("bad budget: $share of $window prompts. Give a share of 0 to 1 and a window from 1.")
        }
    }

    private val recent = ArrayDeque(history.takeLast(window - 1))

    public val history: List<Boolean> get() = recent.toList()

    /** Calls in all that [window] prompts may make. A share of 0.3 of 10 is 3 although 0.3 * 10 may fall short. */
    public val allowed: Int get() = (share * window + 1e-9).toInt()

    /** How many more prompts may go to the cloud now. */
    public val left: Int get() = maxOf(0, allowed - recent.count { it })

    /** Note one prompt; [left] counts it from now on. */
    public fun record(leftThePhone: Boolean) {
        recent.addLast(leftThePhone)
        while (recent.size > window - 1) recent.removeFirst()
    }
}
