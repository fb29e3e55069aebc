package ai.edgekit.onnxruntime

import ai.edgekit.core.Bundle
import ai.edgekit.demo.RecordedModel

class OnnxStepModel(bundle: Bundle) : RecordedModel(bundle)
