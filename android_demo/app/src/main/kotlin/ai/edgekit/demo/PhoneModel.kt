package ai.edgekit.demo

import ai.edgekit.core.Bundle
import ai.edgekit.core.EdgekitException
import ai.edgekit.core.RuntimeFacts
import ai.edgekit.core.StepModel

/** A bundle's artifact in the runtime it was made for. */
interface PhoneModel : StepModel, AutoCloseable {
    val runtime: RuntimeFacts
}

/** Open [bundle]'s artifact. Throws [EdgekitException] if this app has no runtime for it or it does not load. */
fun openModel(bundle: Bundle): PhoneModel {
    val length = bundle.manifest.model.contextLength
    return when (val target = bundle.manifest.target) {
        "onnx" -> OnnxStepModel(bundle.artifact, length)
        "executorch" -> ExecuTorchStepModel(bundle.artifact, length)
        else -> throw EdgekitException("cannot run $target: ${bundle.folder}. Android has no runtime. Export for onnx.")
    }
}

/** What a runtime refused, in one line. */
internal fun loadFailure(path: String, error: Throwable): EdgekitException {
    val reason = error.message.orEmpty().replace(Regex("\\s+"), " ").take(200)
    return EdgekitException("cannot load $path: $reason. Its runtime is newer, or the file is damaged. Export again.")
}
