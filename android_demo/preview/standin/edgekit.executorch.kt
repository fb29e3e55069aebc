package ai.edgekit.executorch

import ai.edgekit.core.Bundle
import ai.edgekit.demo.RecordedModel

class ExecuTorchStepModel(bundle: Bundle) : RecordedModel(bundle)
