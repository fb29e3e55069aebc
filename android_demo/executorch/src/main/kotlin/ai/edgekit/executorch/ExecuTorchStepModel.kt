package ai.edgekit.executorch

import ai.edgekit.core.Bundle
import ai.edgekit.core.EdgekitException
import ai.edgekit.core.PhoneModel
import ai.edgekit.core.RuntimeFacts
import ai.edgekit.core.deviceFailed
import ai.edgekit.core.loadFailure
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/**
 * model.pte's method forward, as edgekit/simulate/on_executorch.py runs it on the host.
 *
 * It takes tokens (1, n) and the first one's position (1), int64, and returns logits (1, vocab), float32. The
 * KV cache lives inside the program, off the Java heap; the file is mapped, not read.
 *
 * Throws [EdgekitException]: UNSUPPORTED for a runtime older than the bundle's oldest, DEVICE_FAILED.
 */
public class ExecuTorchStepModel(bundle: Bundle) : PhoneModel {
    private val module: Module
    private var position = 0

    override val contextLength: Int = bundle.manifest.model.contextLength
    override val runtime: RuntimeFacts = RuntimeFacts("executorch", BuildConfig.EXECUTORCH_VERSION)

    init {
        bundle.manifest.runtime.check(runtime)
        val path = bundle.artifact.path
        try {
            module = Module.load(path, Module.LOAD_MODE_MMAP)
        } catch (error: RuntimeException) { // what the library throws, of its own classes and of Java's
            throw loadFailure(path, error)
        } catch (error: LinkageError) { // a phone whose processor the library is not built for
            throw loadFailure(path, error)
        }
        try {
            module.loadMethod("forward")
        } catch (error: RuntimeException) {
            module.destroy()
            throw loadFailure(path, error)
        }
    }

    /** Back to position 0. Old cache entries may stay: attention masks every slot beyond the position. */
    override fun reset() {
        position = 0
    }

    /** All of it in one call, two if it fills the context: one call takes a token less. */
    override fun prefill(tokenIds: IntArray): FloatArray {
        val longest = contextLength - 1
        if (tokenIds.size <= longest) return run(tokenIds)
        run(tokenIds.copyOfRange(0, longest))
        return run(tokenIds.copyOfRange(longest, tokenIds.size))
    }

    override fun decode(tokenId: Int): FloatArray = run(intArrayOf(tokenId))

    private fun run(tokenIds: IntArray): FloatArray {
        val ids = LongArray(tokenIds.size) { tokenIds[it].toLong() }
        val tokens = Tensor.fromBlob(ids, longArrayOf(1, ids.size.toLong()))
        val start = Tensor.fromBlob(longArrayOf(position.toLong()), longArrayOf(1))
        val logits = try {
            module.forward(EValue.from(tokens), EValue.from(start))[0].toTensor().dataAsFloatArray
        } catch (error: RuntimeException) {
            throw deviceFailed(error)
        }
        position += tokenIds.size
        return logits
    }

    override fun close() {
        module.destroy()
    }
}
