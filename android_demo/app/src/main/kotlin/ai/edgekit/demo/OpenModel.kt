package ai.edgekit.demo

import ai.edgekit.core.Bundle
import ai.edgekit.core.EdgekitException
import ai.edgekit.core.ErrorKind
import ai.edgekit.core.PhoneModel
import ai.edgekit.executorch.ExecuTorchStepModel
import ai.edgekit.onnxruntime.OnnxStepModel

/** Open [bundle]'s artifact. Throws [EdgekitException] if this app has no runtime for it or it does not load. */
fun openModel(bundle: Bundle): PhoneModel = when (val target = bundle.manifest.target) {
    "onnx" -> OnnxStepModel(bundle)
    "executorch" -> ExecuTorchStepModel(bundle)
    else -> {
        val why = "Android has no runtime for it. Export for onnx"
        throw EdgekitException("cannot run $target: ${bundle.folder}. $why.", ErrorKind.UNSUPPORTED)
    }
}
