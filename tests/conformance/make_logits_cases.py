"""Records a bundle's logits in its host simulator, and what DecodeSession decides from them at several marker biases.

Usage: make_logits_cases.py STEM BUNDLE... writes STEM.json and STEM.f32, from bundles of one policy. The logits are
those of the path without the marker, so every bias can be replayed: a call only ends that path earlier. The committed
logits_cases are of the bundles that `make demo` exports; another machine's differ in their last bits.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle.conformance import AnyCase
from edgekit.bundle.load import Bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary, load_vocabulary
from edgekit.simulate import open_simulator

ROOT = Path(__file__).parents[2]
SHIPPED = "edgekit/policy/base/tokenizer.json"
SOLO = float("-inf")
ABOUT = (
    "Logits of real artifacts and what DecodeSession decides from them. logits.file holds float32, little endian, rows "
    "of vocab_size; a case's rows are first_row to first_row + rows. Feed them one by one until advance says that the "
    "response has ended. marker_bias null is minus infinity: the marker is forbidden. max_new_tokens and "
    "context_length, where given, replace routing's and the bundle's. marker_margin null is minus infinity. tokenizer "
    "is a path from the repository's root or beside this file."
)


@dataclass
class Rows:
    """A step model that plays recorded logits, (rows, vocab_size) float32, whatever it is given."""

    logits: NDArray[np.float32]
    context_length: int
    at: int = 0

    def reset(self) -> None:
        """Begin again."""
        self.at = 0

    def prefill(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """The first row."""
        return self.logits[0]

    def decode(self, token_id: int) -> NDArray[np.float32]:
        """The next row."""
        self.at += 1
        return self.logits[self.at]


def replay(
    rows: Rows, spec: RoutingSpec, vocabulary: Vocabulary, prompt_ids: Sequence[int], decision: dict[str, Any]
) -> dict[str, Any]:
    """What DecodeSession decides from ``rows`` under a decision's bias and limits."""
    spec = spec.model_copy(update={"max_new_tokens": decision.get("max_new_tokens", spec.max_new_tokens)})
    context = decision.get("context_length", rows.context_length)
    bias = SOLO if decision["marker_bias"] is None else decision["marker_bias"]
    got = decode(rows, prompt_ids, DecodeSession(spec, vocabulary, len(prompt_ids), context, bias))
    margin = got.marker_margin if math.isfinite(got.marker_margin) else None
    fields = {key: getattr(got, key) for key in ("route", "reason", "text", "answer")}
    return {**fields, "token_ids": list(got.token_ids), "marker_margin": margin}


def record(bundle: Bundle, prompts: Iterable[Sequence[int]]) -> list[NDArray[np.float32]]:
    """Each prompt's logits while the artifact decodes it with the marker forbidden."""
    facts = bundle.manifest.model
    model = open_simulator(bundle.manifest.target, bundle.artifact, facts.context_length, facts.prefill_chunk)
    found = []
    for ids in prompts:
        session = DecodeSession(bundle.routing, bundle.vocabulary, len(ids), facts.context_length, SOLO, logits=[])
        decode(model, ids, session)
        found.append(np.stack(session.logits or []))
    return found


def choose(cases: Sequence[AnyCase], bias: float) -> list[AnyCase]:
    """The surest calls, the surest kept one, an unanswered one, and those nearest to the threshold."""
    margins = {case.id: case.call_margin + bias if math.isfinite(case.call_margin) else 0.0 for case in cases}
    ordered = sorted(cases, key=lambda case: margins[case.id])
    unanswered = [case for case in cases if case.quantized_reference.answer is None]
    nearest = sorted(cases, key=lambda case: abs(margins[case.id]))
    chosen = [*ordered[-2:], ordered[0], *unanswered[:1], *nearest[:4]]
    return list({case.id: case for case in chosen}.values())


def decisions_for(margin: float | None, rows: int, prompt_tokens: int) -> list[dict[str, Any]]:
    """Biases far from, near and exactly at the threshold; responses cut by each limit."""
    biases: list[float | None] = [None, 0.0, 60.0, -60.0]
    if margin is not None:
        biases += [-margin, -margin + 1e-3, -margin - 1e-3, -margin + 2.0]
    cuts = [{"marker_bias": None, "max_new_tokens": max(1, rows // 2)}, {"marker_bias": 0.0, "max_new_tokens": 1}]
    room = {"marker_bias": None, "context_length": prompt_tokens + max(1, rows // 3)}
    return [*({"marker_bias": bias} for bias in biases), *cuts, room]


def ties(size: int, spec: RoutingSpec, vocabulary: Vocabulary, newline: int) -> dict[str, NDArray[np.float32]]:
    """Made-up logits, (3, size), for what real ones seldom show: equal and infinite values."""
    marker, stop = spec.marker.token_ids[0][0], spec.stop_token_ids[0]
    made = {name: np.zeros((3, size), np.float32) for name in ("all equal", "marker ties with two others")}
    made["marker ties with two others"][:, [newline, newline + 1, marker]] = 2.5
    last = int(np.setdiff1d(np.arange(size), vocabulary.without_token(size))[-1])
    chosen = {
        "an id without a token is never chosen": size - 1,
        "stop first": stop,
        "marker alone": marker,
        "last token wins": last,
    }
    for name, index in chosen.items():
        made[name] = np.full((3, size), -1e30, np.float32)
        made[name][:, index] = 1.0
    made["marker minus infinity"] = made["all equal"].copy()
    made["marker minus infinity"][:, marker] = -np.inf
    made["minus zero"] = made["all equal"].copy()
    made["minus zero"][:, ::2] = -0.0
    return {f"made up: {name}": logits for name, logits in made.items()}


def place_tokenizer(stem: Path, bundle: Bundle) -> str:
    """The tokenizer's path for the case file; a copy beside it unless it is the shipped one."""
    own = bundle.path / "tokenizer.json"
    if own.read_bytes() == (ROOT / SHIPPED).read_bytes():
        return SHIPPED
    shutil.copyfile(own, stem.with_suffix(".tokenizer.json"))
    return stem.with_suffix(".tokenizer.json").name


def make(stem: Path, folders: Sequence[Path]) -> None:
    """Write both files."""
    bundles = [open_bundle(folder) for folder in folders]
    first = bundles[0]
    spec = first.routing.model_copy(update={"marker_bias": 0.0})
    size = first.manifest.model.vocab_size
    if any(b.routing.model_copy(update={"marker_bias": 0.0}) != spec for b in bundles):
        raise EdgekitError(f"different policies: {', '.join(map(str, folders))}. One file takes one. Give its bundles.")
    tokenizer = place_tokenizer(stem, first)
    recorded: list[tuple[str, list[int], NDArray[np.float32]]] = []
    for bundle in bundles:
        cases = choose(bundle.conformance(), bundle.routing.marker_bias)
        for case, logits in zip(cases, record(bundle, [case.prompt_token_ids for case in cases]), strict=True):
            recorded.append((f"{bundle.manifest.target} {case.id}", list(case.prompt_token_ids), logits))
    newline = first.tokenizer.encode("\n", add_special_tokens=False).ids[-1]
    vocabulary = load_vocabulary(first.path / "tokenizer.json", spec)
    recorded += [(name, [1, 2], logits) for name, logits in ties(size, spec, vocabulary, newline).items()]
    written, at = [], 0
    for name, ids, logits in recorded:
        context = first.manifest.model.context_length
        limit = {"max_new_tokens": len(logits)} if name.startswith("made up") else {}
        rows = Rows(logits, context)
        solo = replay(rows, spec, vocabulary, ids, {"marker_bias": None, **limit})
        wanted = [limit | decision for decision in decisions_for(solo["marker_margin"], len(logits), len(ids))]
        decisions = [{**d, "expect": replay(rows, spec, vocabulary, ids, d)} for d in wanted]
        written.append(
            {"name": name, "prompt_token_ids": ids, "first_row": at, "rows": len(logits), "decisions": decisions}
        )
        at += len(logits)
    data = {
        "about": ABOUT,
        "logits": {"file": stem.with_suffix(".f32").name, "vocab_size": size},
        "tokenizer": tokenizer,
        "routing": spec.model_dump(mode="json"),
        "context_length": first.manifest.model.context_length,
    }
    head = json.dumps(data, indent=1)[:-2]
    stem.with_suffix(".f32").write_bytes(np.concatenate([rows for *_, rows in recorded]).astype("<f4").tobytes())
    lines = ",\n  ".join(json.dumps(case) for case in written)
    stem.with_suffix(".json").write_text(f'{head},\n "cases": [\n  {lines}\n ]\n}}\n')


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    make(target, [Path(folder) for folder in sys.argv[2:]])
