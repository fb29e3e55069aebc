"""The documents of a bundle, and what a reader must say to each: routing.json, manifest.json, conformance.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from document_changes import ABSENT, BAD_FIELD, NOT_JSON, TAKEN, changed, fields, number

FIT: dict[str, Any] = {
    "task": "countdown",
    "split": "validation",
    "n": 500,
    "seed": 0,
    "reached_fraction": 0.3,
    "interval": [0.26, 0.34],
    "marker_bias": 0.5,
}
ROUTING: dict[str, Any] = {
    "version": 2,
    "marker": {"text": "<c>", "token_ids": [[3], [4, 5]]},
    "answer": {"open": "<answer>", "close": "</answer>"},
    "stop_token_ids": [2],
    "max_new_tokens": 8,
    "prompt_template": "Use {prompt}\n",
    "marker_bias": 0.5,
    "calibrated_call_fraction": None,
    "calibration": None,
    "on_no_answer": "cloud",
}
MANIFEST: dict[str, Any] = {
    "format": "edgekit-bundle",
    "version": 1,
    "target": "onnx",
    "artifact": "model.onnx",
    "precision": "int4",
    "recipe": {"name": "onnx_int4"},
    "model": {
        "vocab_size": 672,
        "layers": 3,
        "hidden_size": 128,
        "parameters": 630000,
        "context_length": 128,
        "prefill_chunk": 32,
    },
    "runtime": {"name": "onnxruntime", "version": "1.22 or newer"},
    "files": {"model.onnx": {"sha256": "0123456789abcdef" * 4, "size": 9}},
    "provenance": {"edgekit": "0.1"},
}
BAD_HASHES = ("", "0" * 63, "0" * 65, "0" * 63 + "g", "A" * 64, "0" * 63 + "\n", "0" * 64 + "\n", None)
DECISION: dict[str, Any] = {
    "token_ids": [658, 450, 659],
    "route": "local",
    "reason": "answer",
    "text": "<answer>2</answer>",
    "answer": "2",
    "marker_margin": -1.25,
}
OLD_CASE: dict[str, Any] = {
    "id": "case-0",
    "prompt": "3 7 -> 10",
    "prompt_token_ids": [1, 2],
    "marker_bias": 0.0,
    "reference": DECISION,
    "quantized_reference": DECISION,
}
RESPONSE: dict[str, Any] = {
    "token_ids": [658, 450, 659],
    "route": "local",
    "reason": "answer",
    "text": "<answer>2</answer>",
    "answer": "2",
    "margins": [[0, -1.25], [2, 0.5]],
}
CASE: dict[str, Any] = {
    "version": 2,
    "id": "case-0",
    "prompt": "3 7 -> 10",
    "prompt_token_ids": [1, 2],
    "reference_bias": 0.25,
    "marker_bias": 0.0,
    "reference": RESPONSE,
    "quantized_reference": RESPONSE,
}


def routing() -> Iterator[tuple[str, str, str]]:
    """routing.json."""
    text = json.dumps(ROUTING)
    yield "the example", text, TAKEN
    needed = {name: ROUTING[name] for name in ("marker", "stop_token_ids", "max_new_tokens")}
    yield "only what is needed", json.dumps(needed), TAKEN
    yield "a list", "[]", BAD_FIELD
    yield "a text", '"routing"', BAD_FIELD
    yield "null", "null", BAD_FIELD
    yield "no JSON", text[:-1], NOT_JSON
    yield "a key twice", text[:-1] + ', "version": 1}', NOT_JSON
    yield "newer", json.dumps({**ROUTING, "version": 99, "surprise": 1}), "newer"
    yield "8 prompts in the template", json.dumps({**ROUTING, "prompt_template": "{prompt}\n" * 8}), TAKEN
    yield "9 prompts in the template", json.dumps({**ROUTING, "prompt_template": "{prompt}" * 9}), BAD_FIELD
    yield from fields(
        ROUTING,
        {
            TAKEN: [
                ("answer", ABSENT), ("answer", {}), ("answer.open", ABSENT), ("answer.open", "["),
                ("stop_token_ids", []), ("stop_token_ids", [0, 2147483647]), ("max_new_tokens", 2147483647),
                ("marker_bias", 3), ("marker_bias", -1e300), ("marker_bias", ABSENT),
                ("calibrated_call_fraction", 0.3), ("calibrated_call_fraction", 1),
                ("calibrated_call_fraction", ABSENT), ("prompt_template", "{prompt}{prompt}"),
                ("prompt_trim", "none"), ("prompt_trim", "both"), ("prompt_trim", "start"), ("prompt_trim", "end"),
                ("calibration", ABSENT),
                ("prompt_template", ABSENT), ("on_no_answer", "local"), ("on_no_answer", ABSENT), ("version", ABSENT),
                ("marker.text", "\U0001f600"),
            ],
            BAD_FIELD: [
                ("surprise", 1), ("surprise", None), ("marker.surprise", 1), ("answer.surprise", 1),
                ("version", 0), ("version", -1), ("version", 0.5), ("version", "1"), ("version", True),
                ("version", None),
                ("marker", ABSENT), ("marker", None), ("marker", []), ("marker", "<c>"), ("marker.text", ABSENT),
                ("marker.text", ""), ("marker.text", 1), ("marker.text", None), ("marker.token_ids", ABSENT),
                ("marker.token_ids", []), ("marker.token_ids", [[]]), ("marker.token_ids", [[1], []]),
                ("marker.token_ids", [1]), ("marker.token_ids", [["1"]]), ("marker.token_ids", [[None]]),
                ("marker.token_ids", [[-1]]), ("marker.token_ids", [[1.5]]), ("marker.token_ids", [[True]]),
                ("marker.token_ids", [[2147483648]]), ("marker.token_ids", {}), ("marker.token_ids", None),
                ("answer", None), ("answer", []), ("answer.open", ""), ("answer.close", ""), ("answer.open", None),
                ("answer.close", 7),
                ("stop_token_ids", ABSENT), ("stop_token_ids", None), ("stop_token_ids", 2), ("stop_token_ids", [-2]),
                ("stop_token_ids", ["2"]), ("stop_token_ids", [None]), ("stop_token_ids", [2147483648]),
                ("max_new_tokens", ABSENT), ("max_new_tokens", 0), ("max_new_tokens", -8), ("max_new_tokens", 8.5),
                ("max_new_tokens", "8"), ("max_new_tokens", True), ("max_new_tokens", None),
                ("max_new_tokens", 2147483648), ("max_new_tokens", 1e18),
                ("prompt_template", ""), ("prompt_template", "prompt"), ("prompt_template", None),
                ("prompt_template", 1),
                ("prompt_trim", ""), ("prompt_trim", "Both"), ("prompt_trim", None), ("prompt_trim", True),
                ("marker_bias", None), ("marker_bias", "0"), ("marker_bias", False), ("marker_bias", []),
                ("calibrated_call_fraction", "0.3"), ("calibrated_call_fraction", True),
                ("calibration", []), ("calibration", {}), ("calibration", "countdown"), ("calibration", 0.3),
                ("on_no_answer", "both"), ("on_no_answer", "LOCAL"), ("on_no_answer", ""), ("on_no_answer", None),
            ],
        },
    )  # fmt: skip
    yield from fields(
        {**ROUTING, "calibration": FIT},
        {
            TAKEN: [
                ("calibration", FIT), ("calibration.n", 1), ("calibration.seed", -7), ("calibration.task", ""),
                ("calibration.interval", [0, 1]), ("calibration.reached_fraction", 1), ("calibration.marker_bias", -3),
            ],
            BAD_FIELD: [
                *((f"calibration.{name}", value) for name in FIT for value in (ABSENT, None, True, [])),
                ("calibration.surprise", 1), ("calibration.n", 0), ("calibration.n", 2147483648),
                ("calibration.n", 1.5), ("calibration.seed", 0.5), ("calibration.reached_fraction", 1.01),
                ("calibration.reached_fraction", -0.01), ("calibration.interval", [0.1]),
                ("calibration.interval", [0.1, 0.2, 0.3]), ("calibration.interval", ["0", 1]),
                ("calibration.interval", [-0.1, 1]), ("calibration.interval", [0, 1.1]),
            ],
        },
    )  # fmt: skip
    for spelled in ("8.0", "8e0", "0.8e1", "80e-1"):
        yield number(ROUTING, "max_new_tokens", spelled, TAKEN)
        yield number(ROUTING, "marker.token_ids", f"[[{spelled}]]", TAKEN)
    yield number(ROUTING, "version", "1.0", TAKEN)
    yield number(ROUTING, "version", "2e0", TAKEN)
    yield number(ROUTING, "version", "3e0", "newer")
    yield number(ROUTING, "stop_token_ids", "[-0]", TAKEN)
    yield number(ROUTING, "stop_token_ids", "[-0.0]", TAKEN)
    yield number(ROUTING, "max_new_tokens", "8.000001", BAD_FIELD)
    yield number(ROUTING, "max_new_tokens", "1e-400", BAD_FIELD)
    yield number(ROUTING, "max_new_tokens", "9" * 30, BAD_FIELD)
    yield number(ROUTING, "stop_token_ids", "[18446744073709551618]", BAD_FIELD)  # 2 if cut to 64 bits
    yield number(ROUTING, "stop_token_ids", "[4294967298]", BAD_FIELD)  # 2 if cut to 32 bits
    yield number(ROUTING, "marker_bias", "123456789012345678901234567890", TAKEN)
    yield number(ROUTING, "marker_bias", "-1e400", NOT_JSON)
    yield number(ROUTING, "marker_bias", "NaN", NOT_JSON)
    yield number(ROUTING, "marker_bias", "+0.5", NOT_JSON)
    yield number(ROUTING, "max_new_tokens", "08", NOT_JSON)
    yield number(ROUTING, "marker.text", r'"\ud800"', NOT_JSON)


def manifest() -> Iterator[tuple[str, str, str]]:
    """manifest.json."""
    text = json.dumps(MANIFEST)
    yield "the example", text, TAKEN
    yield "a list", "[]", "wrong_format"
    yield "a text", '"edgekit-bundle"', "wrong_format"
    yield "an empty object", "{}", "wrong_format"
    yield "no JSON", text[:-1], NOT_JSON
    yield "a key twice", text[:-1] + ', "target": "onnx"}', NOT_JSON
    yield "another format of a newer version", json.dumps({"format": "zip", "version": 9}), "wrong_format"
    yield "newer, of fields unknown here", json.dumps({"format": "edgekit-bundle", "version": 99}), "newer"
    entry = MANIFEST["files"]["model.onnx"]
    inside = ("a", "a/b.c", "..a", "a..", "a/b:c", "a b", "\u00e9", "a/...", "~")
    outside = ("../a", "/a", "a/../b", "./a", "a/./b", "a//b", "a/", "", ".", "..", "C:/a", "a\\b", "a\0b", "/")
    # Optional facts that bundles made earlier lack.
    optional = ("intermediate_size", "attention_heads", "key_value_heads", "head_dim")
    yield from fields(
        MANIFEST,
        {
            "wrong_format": [("format", ABSENT), ("format", None), ("format", "edgekit"), ("format", 1)],
            TAKEN: [
                ("surprise", {"a": [1]}), ("model.surprise", 1), ("runtime.surprise", 1), ("recipe.surprise", [1]),
                ("target", "executorch"), ("target", "coreml"), ("recipe", {}), ("recipe.name", None),
                ("provenance", {}), ("files", {}), ("model.tied_embeddings", True), ("model.tied_embeddings", None),
                ("model.vocab_size", 16777216), ("model.layers", 65536), ("model.parameters", 281474976710656),
                *((f"model.{name}", 8) for name in optional), *((f"model.{name}", None) for name in optional),
                *(("artifact", name) for name in inside), *(("files", {name: entry}) for name in inside),
                ("files", {"a": {**entry, "size": 0}}), ("files", {"a": {**entry, "size": 281474976710656}}),
                ("files", {"a": {**entry, "surprise": 1}}),
            ],
            BAD_FIELD: [
                ("version", ABSENT), ("version", None), ("version", 0), ("version", "1"), ("version", True),
                ("version", 0.5),
                ("target", ABSENT), ("target", "tflite"), ("target", "ONNX"), ("target", None), ("target", ["onnx"]),
                ("artifact", ABSENT), ("artifact", None), ("artifact", 1),
                ("precision", ABSENT), ("precision", None), ("precision", 4),
                ("recipe", ABSENT), ("recipe", None), ("recipe", []), ("recipe", "onnx_int4"),
                ("provenance", ABSENT), ("provenance", None), ("provenance", []), ("provenance", {"task": 1}),
                ("provenance", {"task": None}),
                ("model", ABSENT), ("model", None), ("model", []),
                *((f"model.{name}", ABSENT) for name in MANIFEST["model"]),
                *((f"model.{name}", 0) for name in MANIFEST["model"]),
                *((f"model.{name}", None) for name in MANIFEST["model"]),
                *((f"model.{name}", 0) for name in optional), *((f"model.{name}", "8") for name in optional),
                ("model.vocab_size", -1), ("model.vocab_size", 1.5), ("model.vocab_size", "672"),
                ("model.vocab_size", 16777217), ("model.context_length", 16777217), ("model.layers", 65537),
                ("model.parameters", 281474976710657), ("model.tied_embeddings", 1),
                ("model.tied_embeddings", "true"),
                ("runtime", ABSENT), ("runtime", None), ("runtime.name", ABSENT), ("runtime.name", None),
                ("runtime.version", ABSENT), ("runtime.version", 1.22),
                ("files", ABSENT), ("files", None), ("files", []), ("files", {"a": None}), ("files", {"a": "b"}),
                ("files", {"a": {"size": 1}}), ("files", {"a": {"sha256": entry["sha256"]}}),
                *(("files", {"a": {**entry, "size": size}}) for size in (-1, 0.5, "1", None, 281474976710657)),
                *(
                    ("files", {"a": {**entry, "sha256": each}})
                    for each in BAD_HASHES
                ),
                *(("artifact", name) for name in outside), *(("files", {name: entry}) for name in outside),
            ],
        },
    )  # fmt: skip
    for spelled in ("672.0", "672e0", "6.72e2"):
        yield number(MANIFEST, "model.vocab_size", spelled, TAKEN)
    yield number(MANIFEST, "version", "1.0", TAKEN)
    yield number(MANIFEST, "model.vocab_size", "+672", NOT_JSON)
    yield number(MANIFEST, "model.vocab_size", "0672", NOT_JSON)
    yield number(MANIFEST, "model.parameters", "1e400", NOT_JSON)
    yield number(MANIFEST, "model.parameters", "1" + "0" * 30, BAD_FIELD)
    yield number(MANIFEST, "model.vocab_size", "18446744073709552288", BAD_FIELD)  # 672 if cut to 64 bits


def conformance() -> Iterator[tuple[str, str | bytes, str]]:
    """conformance.jsonl, most of one line."""
    line, old = json.dumps(CASE), json.dumps(OLD_CASE)
    yield "the example", line + "\n", TAKEN
    yield "version 1", old + "\n", TAKEN
    yield "both versions in one file", f"{old}\n{line}\n", TAKEN
    yield "no line break at the end", line, TAKEN
    yield "empty", "", TAKEN
    yield "blank lines", f"\n{line}\n \t\n\n{line}\n\n", TAKEN
    yield "lines that end as on Windows", f"{line}\r\n{line}\r\n", TAKEN
    yield "a raw line separator in a text", json.dumps({**CASE, "prompt": "a\u2028b\x85c"}, ensure_ascii=False), TAKEN
    yield "two on one line", f"{line} {line}\n", NOT_JSON
    yield "a line broken in two", line.replace(", ", ",\n", 1), NOT_JSON
    yield "a good line and a broken one", f"{line}\n{line[:-1]}\n", NOT_JSON
    yield "a good line and a bad one", f"{line}\n{{}}\n", BAD_FIELD
    yield "bad UTF-8", line.replace("3 7", "\u00e9").encode("latin-1"), NOT_JSON
    yield "a byte order mark", "\ufeff" + line, NOT_JSON
    yield "NaN as a margin", line.replace("-1.25", "NaN"), NOT_JSON
    yield "NaN as a margin of version 1", old.replace("-1.25", "NaN"), NOT_JSON
    yield "a list", "[]\n", BAD_FIELD
    yield "newer, of fields unknown here", json.dumps({"version": 99}), "newer"
    yield "version 1 that says so", json.dumps({**OLD_CASE, "version": 1}), TAKEN
    yield "version 1 with version 2's fields", json.dumps({**CASE, "version": 1}), BAD_FIELD
    yield "version 2 with version 1's fields", json.dumps({**OLD_CASE, "version": 2}), BAD_FIELD
    yield "version 2 that does not say so", json.dumps(changed(CASE, "version", ABSENT)), BAD_FIELD
    for value in (0, -1, 1.5, "2", None, True):
        yield f"version {json.dumps(value)}", json.dumps({**CASE, "version": value}), BAD_FIELD
    yield from sides("version 1: ", OLD_CASE, "marker_margin", [None, 3], ["0", True])
    wrong = [None, 0, {}, [1], [[1]], [[1, 2, 3]], [["0", 1]], [[-1, 1]], [[0.5, 1]], [[0, None]], [[0, "1"]]]
    yield from sides("", CASE, "margins", [[], [[0, 3]], [[2147483647, -0.5]]], [*wrong, [[2147483648, 1]]])
    graded = ("grading_rule", "reference_answer")
    yield from fields(
        CASE,
        {
            TAKEN: [(name, value) for name in graded for value in (None, "", "number")],
            BAD_FIELD: [(name, value) for name in graded for value in (0, [], {}, True)],
        },
    )
    yield number(CASE, "prompt_token_ids", "[1.0, 2e0, -0]", TAKEN)
    yield number(CASE, "reference.margins", "[[1.0, 2e0], [30e-1, -0]]", TAKEN)
    yield number(CASE, "marker_bias", "1e400", NOT_JSON)
    yield number(CASE, "reference_bias", "1e400", NOT_JSON)
    yield number(CASE, "prompt", r'"\udc00"', NOT_JSON)


def sides(
    version: str, base: dict[str, Any], margin: str, taken: list[Any], refused: list[Any]
) -> Iterator[tuple[str, str, str]]:
    """A case with one field changed at a time; ``margin``'s values are ``taken`` or ``refused``."""
    recorded = base["reference"]
    for side in ("reference", "quantized_reference"):
        verdicts: dict[str, list[tuple[str, Any]]] = {
            TAKEN: [
                (f"{side}.answer", None), (f"{side}.token_ids", []), (f"{side}.route", "cloud"),
                (f"{side}.reason", "else"), (f"{side}.surprise", 1), (f"{side}.text", ""),
                *((f"{side}.{margin}", value) for value in taken),
            ],
            BAD_FIELD: [
                (side, ABSENT), (side, None), (side, []),
                *((f"{side}.{name}", ABSENT) for name in recorded),
                *((f"{side}.{name}", None) for name in ("token_ids", "route", "reason", "text")),
                (f"{side}.answer", 2), (f"{side}.token_ids", [-1]), (f"{side}.token_ids", [1.5]),
                (f"{side}.token_ids", [2147483648]), (f"{side}.token_ids", [True]),
                (f"{side}.route", "phone"), (f"{side}.route", "Local"), (f"{side}.text", 1),
                *((f"{side}.{margin}", value) for value in refused),
            ],
        }  # fmt: skip
        yield from fields(base, verdicts, version)
    plain = [name for name in base if base[name] is not recorded and name != "version"]
    verdicts = {
        TAKEN: [("surprise", 1), ("prompt", ""), ("prompt_token_ids", []), ("marker_bias", 2)],
        BAD_FIELD: [
            *((name, value) for name in plain for value in (ABSENT, None)),
            ("id", 0), ("prompt", ["a"]), ("prompt_token_ids", "1"), ("prompt_token_ids", [[1]]),
            ("prompt_token_ids", [2147483648]), ("marker_bias", "0"), ("marker_bias", False),
        ],
    }  # fmt: skip
    yield from fields(base, verdicts, version)
