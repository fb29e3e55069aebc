package ai.edgekit.onnxruntime

import ai.edgekit.core.Bundle
import ai.edgekit.core.EdgekitException
import ai.edgekit.core.ErrorKind
import ai.edgekit.core.PhoneModel
import ai.edgekit.core.RuntimeFacts
import ai.edgekit.core.deviceFailed
import ai.edgekit.core.loadFailure
import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.LongBuffer

/**
 * model.onnx in its fused layout, as edgekit/simulate/on_onnxruntime.py runs it on the host.
 *
 * Inputs: input_ids (1, tokens) and position (1), int64, and past_key_N, past_value_N (1, heads, context,
 * dim), float32, float16 or int8. Outputs: logits (1, vocab) and the same caches as present_*: each is bound to the buffer
 * of its past, so that the graph writes the cache in place.
 *
 * Throws [EdgekitException]: UNSUPPORTED for a runtime older than the bundle's oldest or another layout, DEVICE_FAILED.
 */
public class OnnxStepModel(bundle: Bundle) : PhoneModel {
    /** What is closed at the end, the last opened first: a tensor before its memory, which it does not own. */
    private val opened = ArrayDeque<AutoCloseable>()
    private val environment: OrtEnvironment
    private val session: OrtSession
    private val inputs = HashMap<String, OnnxTensor>()
    private val outputs = HashMap<String, OnnxTensor>()
    private val token = longs(1)
    private val start = longs(1)
    private val logits: FloatBuffer
    private val oneToken: OnnxTensor
    private var position = 0

    override val contextLength: Int = bundle.manifest.model.contextLength
    override val runtime: RuntimeFacts

    init {
        try {
            environment = OrtEnvironment.getEnvironment()
            runtime = RuntimeFacts("onnxruntime", environment.version)
            bundle.manifest.runtime.check(runtime)
            val options = keep(OrtSession.SessionOptions())
            options.setIntraOpNumThreads(threadsFor(bundle.artifact))
            options.setInterOpNumThreads(1)
            session = keep(environment.createSession(bundle.artifact.path, options))
            if ("attention_mask" in session.inputNames) {
                val why = "cannot run ${bundle.artifact.name}: its layout is standard. Export with layout fused."
                throw EdgekitException(why, ErrorKind.UNSUPPORTED)
            }
            for ((name, node) in session.inputInfo) {
                if (!name.startsWith("past_")) continue
                val cache = cache(node.info as TensorInfo)
                inputs[name] = cache
                outputs[name.replace("past_", "present_")] = cache
            }
            val shape = (session.outputInfo.getValue("logits").info as TensorInfo).getShape()
            logits = direct(Float.SIZE_BYTES * shape.last().toInt()).asFloatBuffer()
            outputs["logits"] = keep(OnnxTensor.createTensor(environment, logits, shape))
            inputs["position"] = keep(OnnxTensor.createTensor(environment, start, longArrayOf(1)))
            oneToken = keep(OnnxTensor.createTensor(environment, token, longArrayOf(1, 1)))
        } catch (error: Throwable) { // not only the runtime's: no memory, a processor the library is not built for
            close()
            throw loadFailure(bundle.artifact.path, error)
        }
    }

    private fun <T : AutoCloseable> keep(resource: T): T = resource.also(opened::addFirst)

    /** One cache as wide as the artifact has it. */
    private fun cache(info: TensorInfo): OnnxTensor {
        val width = when (info.type) {
            OnnxJavaType.INT8 -> Byte.SIZE_BYTES
            OnnxJavaType.FLOAT16 -> Short.SIZE_BYTES
            else -> Float.SIZE_BYTES
        }
        val memory = keep(OffHeap(Math.toIntExact(info.shape.fold(width.toLong(), Math::multiplyExact))))
        return keep(OnnxTensor.createTensor(environment, memory.bytes, info.shape, info.type))
    }

    /** Back to position 0. Old cache entries may stay: attention ends at the position. */
    override fun reset() {
        position = 0
    }

    override fun prefill(tokenIds: IntArray): FloatArray {
        val ids = longs(tokenIds.size)
        for (id in tokenIds) ids.put(id.toLong())
        ids.rewind()
        val shape = longArrayOf(1, tokenIds.size.toLong())
        return OnnxTensor.createTensor(environment, ids, shape).use { run(it, tokenIds.size) }
    }

    override fun decode(tokenId: Int): FloatArray {
        token.put(0, tokenId.toLong())
        return run(oneToken, 1)
    }

    private fun run(tokens: OnnxTensor, count: Int): FloatArray {
        start.put(0, position.toLong())
        inputs["input_ids"] = tokens
        try {
            session.run(inputs, outputs).close() // closes nothing of ours: every output is bound
        } catch (error: Exception) { // the runtime's, and Java's of a closed one
            throw deviceFailed(error)
        }
        position += count
        logits.rewind()
        return FloatArray(logits.remaining()).also(logits::get)
    }

    override fun close() {
        while (opened.isNotEmpty()) opened.removeFirst().close()
    }

    private companion object {
        /** A small policy's operators are too short to share; a real model's weights are read faster by several. */
        fun threadsFor(artifact: File): Int {
            val files = artifact.parentFile?.listFiles { file -> file.name.startsWith(artifact.name) }.orEmpty()
            val isSmall = files.sumOf { it.length() } < 16_000_000
            return if (isSmall) 1 else minOf(4, Runtime.getRuntime().availableProcessors())
        }

        fun direct(bytes: Int): ByteBuffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

        fun longs(count: Int): LongBuffer = direct(Long.SIZE_BYTES * count).asLongBuffer()
    }
}
