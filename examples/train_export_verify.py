"""Train a routing policy, export it for phones, and check that it still decides the same there.

python examples/train_export_verify.py                    # a few minutes on two cores
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgekit


def main(out: Path = Path("out/example"), n: int = 500, **settings: Any) -> bool:
    """Everything goes to ``out``; ``settings`` override the training configuration's. Returns whether it matches."""
    run = edgekit.train(out=out / "run", settings=settings)
    bundle = edgekit.export(run, "onnx", out=out / "onnx")
    report = edgekit.verify(bundle, reference=run, n=n)
    print(f"{report.outcome}: {report.n} problems on {report.runtime}")
    if report.overall is not None:
        print(f"{report.overall.decision_agreement:.1%} of the decisions are the reference's")
    for fault in report.faults:
        print(f"- {fault}")
    return report.passed


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
