package ai.edgekit.core

/** Replays a bundle's conformance cases on [model], each decoded greedily at the bias that ships (version 1: its own). */
public class SelfTest(private val bundle: Bundle, private val model: StepModel) {
    /** Every case in turn, until [stop]; [onCase] gets each as it ends. The app's own tokenizer encodes the prompts. */
    public fun run(stop: StopSignal = StopSignal(), onCase: (CaseReport) -> Unit = {}): List<CaseReport> =
        bundle.conformance().map { case -> replay(case, stop).also(onCase) }

    private fun replay(case: ConformanceCase, stop: StopSignal): CaseReport {
        val ids = bundle.encode(case.prompt)
        val timed = TimedModel(GuardedModel(model, bundle.manifest.model.vocabSize, stop))
        val bias = case.bias(bundle.routing)
        val session = DecodeSession(bundle.routing, bundle.vocabulary, ids.size, model.contextLength, bias)
        val decision = decode(timed, ids, session)
        val matches = case.expected(bundle.routing, bundle.vocabulary).agreesWith(decision)
        return CaseReport(
            case.id, ids.toList(), decision, bias, matches, timed.prefillNs / 1e6, timed.decodeNs / 1e6,
        )
    }
}

/** [model] with its calls timed. */
private class TimedModel(private val model: StepModel) : StepModel by model {
    var prefillNs = 0L
        private set
    var decodeNs = 0L
        private set

    override fun prefill(tokenIds: IntArray): FloatArray {
        val begin = System.nanoTime()
        return model.prefill(tokenIds).also { prefillNs += System.nanoTime() - begin }
    }

    override fun decode(tokenId: Int): FloatArray {
        val begin = System.nanoTime()
        return model.decode(tokenId).also { decodeNs += System.nanoTime() - begin }
    }
}
