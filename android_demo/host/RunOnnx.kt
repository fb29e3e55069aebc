package ai.edgekit.host

import ai.edgekit.core.AppFacts
import ai.edgekit.core.Bundle
import ai.edgekit.core.DeviceFacts
import ai.edgekit.core.DeviceReport
import ai.edgekit.core.EdgekitException
import ai.edgekit.core.SelfTest
import ai.edgekit.core.StepModel
import ai.edgekit.core.StopSignal
import ai.edgekit.onnxruntime.OnnxStepModel
import java.io.DataOutputStream
import java.io.File
import java.lang.management.BufferPoolMXBean
import java.lang.management.ManagementFactory

/**
 * Runs the ONNX adapter over ONNX Runtime's own Java library, and says what it did for the tests to judge.
 *
 * Usage: RunOnnxKt OUT BUNDLE...          replays the cases: OUT/NAME.json is the report, OUT/NAME.f32 each step's logits
 *        RunOnnxKt --decode COUNT BUNDLE  says what lies where after that many tokens
 */
public fun main(arguments: Array<String>) {
    if (arguments[0] == "--decode") return decode(arguments[1].toInt(), Bundle.open(File(arguments[2])))
    for (folder in arguments.drop(1).map(::File)) {
        tell(folder, "opened") {
            val bundle = Bundle.open(folder)
            OnnxStepModel(bundle).use { model -> use(bundle, model, File(arguments[0])) }
        }
    }
}

/** What a phone may do with [model], one after the other: each must leave it as good as new for the next. */
private fun use(bundle: Bundle, model: OnnxStepModel, out: File) {
    val name = bundle.folder.name
    val signal = StopSignal()
    tell(bundle.folder, "stopped") { SelfTest(bundle, Stopping(model, signal)).run(signal) }
    model.reset()
    tell(bundle.folder, "too many tokens") { model.prefill(IntArray(model.contextLength + 1)) }
    DataOutputStream(File(out, "$name.f32").outputStream().buffered()).use { rows ->
        val cases = SelfTest(bundle, Noting(model, rows)).run()
        val device = DeviceFacts("no phone", System.getProperty("os.name"))
        val report = DeviceReport(bundle.manifest, device, AppFacts("edgekit tests", "1"), model.runtime, cases)
        File(out, "$name.json").writeText(report.toJson())
    }
    model.close()
    tell(bundle.folder, "closed") { SelfTest(bundle, model).run() }
}

/** One line: the bundle's name, [what], and the kind and words of its error, if it was one. */
private fun tell(folder: File, what: String, step: () -> Unit) {
    val said = try {
        step()
        "done"
    } catch (error: EdgekitException) {
        "${error.kind.word}: ${error.line}"
    }
    println("${folder.name}: $what: $said")
}

/** Presses Stop while the second token is made. */
private class Stopping(private val model: StepModel, private val signal: StopSignal) : StepModel by model {
    override fun decode(tokenId: Int): FloatArray = model.decode(tokenId).also { signal.stop() }
}

/** Writes down every step's logits, float32, most significant byte first. */
private class Noting(private val model: StepModel, private val rows: DataOutputStream) : StepModel by model {
    override fun prefill(tokenIds: IntArray): FloatArray = model.prefill(tokenIds).also { it.forEach(rows::writeFloat) }

    override fun decode(tokenId: Int): FloatArray = model.decode(tokenId).also { it.forEach(rows::writeFloat) }
}

private fun decode(count: Int, bundle: Bundle) {
    OnnxStepModel(bundle).use { model ->
        model.prefill(intArrayOf(1))
        repeat(count) { model.decode(1) }
        System.gc()
        val heap = Runtime.getRuntime().let { it.totalMemory() - it.freeMemory() }
        val pools = ManagementFactory.getPlatformMXBeans(BufferPoolMXBean::class.java)
        println("$count tokens: heap $heap" + pools.joinToString("") { ", ${it.name} ${it.memoryUsed}" })
    }
    println("closed")
}
