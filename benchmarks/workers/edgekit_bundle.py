"""An edgekit bundle's artifact in its host runtime. Usage: edgekit_bundle.py BUNDLE THREADS CONTEXT."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from protocol import serve

from edgekit.bundle.load import open_bundle
from edgekit.bundle.manifest import read_manifest
from edgekit.simulate import get_simulator, on_onnxruntime


class EdgekitBundle:
    """The simulator of ``edgekit verify`` and ``edgekit run``, with an argmax and everybody's number of threads."""

    def __init__(self, folder: Path, threads: int) -> None:
        bundle = open_bundle(folder, check=False)
        facts = bundle.manifest.model
        simulator = get_simulator(bundle.manifest.target)  # in this process: it is one of its own already
        on_onnxruntime.threads_for = lambda _: threads
        if bundle.manifest.target == "executorch":
            import executorch.runtime  # noqa: F401  first: kernels register in it
            from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool

            _unsafe_reset_threadpool(threads)  # before a program is loaded: it keeps the pool that it finds
        self.model = simulator.open_artifact(bundle.artifact, facts.context_length, facts.prefill_chunk)
        self.runtime = f"edgekit {bundle.manifest.recipe['name']}, {self.model.runtime}"

    def prefill(self, prompt: Sequence[int], may_end: bool) -> int:
        self.model.reset()
        return int(self.model.prefill(prompt).argmax())

    def decode(self, token: int) -> int:
        return int(self.model.decode(token).argmax())


if __name__ == "__main__":
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    name = read_manifest(folder).artifact
    serve(folder.glob(f"{name}*"), lambda: EdgekitBundle(folder, threads))
