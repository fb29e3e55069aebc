"""The documents that Python, Kotlin and Swift must take or refuse alike, and the published schemas of them."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import numpy as np
import pytest

from edgekit.bundle.conformance import CONFORMANCE, read_conformance
from edgekit.bundle.manifest import MANIFEST, read_manifest
from edgekit.errors import EdgekitError, ErrorKind
from edgekit.json_document import DocumentFault, parse_json
from edgekit.routing.decode_loop import DecodeSession
from edgekit.routing.prompt_tokens import tokenizer_of
from edgekit.routing.spec import RoutingSpec, load_routing
from edgekit.routing.tokenizer_bounds import added_fault, growth_fault
from edgekit.routing.tokenizer_kinds import check_phones_read
from edgekit.routing.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "schema"
SHARED = json.loads((ROOT / "tests" / "conformance" / "documents.json").read_text())
DOCUMENTS: list[dict[str, Any]] = SHARED["documents"]
READ_BY_PHONES_ONLY = {"budget"}


def load_script(path: Path) -> ModuleType:
    """A script, loaded by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def content(document: dict[str, Any]) -> bytes:
    return base64.b64decode(document["base64"]) if "base64" in document else document["text"].encode()


def written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def read_tokenizer_data(data: bytes) -> None:
    """What the phone cores read has to be readable by the library too."""
    check_phones_read(parse_json(data))
    try:
        tokenizer = tokenizer_of(data.decode())
    except ValueError as error:
        raise DocumentFault(ErrorKind.BAD_FIELD, str(error)) from None
    if fault := growth_fault(tokenizer) or added_fault(tokenizer):
        raise DocumentFault(ErrorKind.UNSUPPORTED, fault)


def choose(data: bytes) -> None:
    """The first token of a response by logits like those."""
    marker = {"marker": {"text": "<c>", "token_ids": [[1]]}, "stop_token_ids": [2], "max_new_tokens": 8}
    session = DecodeSession(RoutingSpec.model_validate(marker), Vocabulary({0: b"a", 1: b"b", 2: b"c"}), 1, 8)
    session.advance(np.array([float(each) for each in json.loads(data)], np.float32))


READERS: dict[str, Callable[[Path, bytes], object]] = {
    "json": lambda _, data: parse_json(data),
    "routing": lambda folder, data: load_routing(written(folder, "routing.json", data)),
    "manifest": lambda folder, data: read_manifest(written(folder, MANIFEST, data).parent),
    "tokenizer": lambda _, data: read_tokenizer_data(data),
    "logits": lambda _, data: choose(data),
    "conformance": lambda folder, data: read_conformance(written(folder, CONFORMANCE, data)),
}


@pytest.mark.parametrize("read", sorted({document["read"] for document in DOCUMENTS} - READ_BY_PHONES_ONLY))
def test_every_shared_document_is_taken_or_refused_as_all_ports_do(read: str, tmp_path: Path) -> None:
    wrong = []
    for document in DOCUMENTS:
        if document["read"] != read:
            continue
        try:
            value = READERS[read](tmp_path, content(document))
            verdict = "taken"
            if read == "json" and value != parse_json(document["value"].encode()):
                verdict = f"taken as {value!r}"
        except (EdgekitError, DocumentFault) as error:
            verdict = error.kind if "\n" not in str(error) else "an error of several lines"
        if verdict != document["verdict"]:
            wrong.append((document["name"], verdict, document["verdict"]))
    assert wrong == []


def test_the_shared_documents_and_error_kinds_are_those_of_their_script() -> None:
    script = load_script(ROOT / "tests" / "conformance" / "make_documents.py")
    assert script.make() == script.DOCUMENTS.read_text()
    assert SHARED["error_kinds"] == list(ErrorKind)
    assert {document["verdict"] for document in DOCUMENTS} <= {"taken", *ErrorKind}


def test_the_published_schemas_are_those_of_the_models_that_read() -> None:
    script = load_script(SCHEMAS / "make.py")
    texts = {f"{name}.json": script.schema_text(model) for name, model in script.MODELS.items()}
    assert {path.name: path.read_text() for path in SCHEMAS.glob("*.json")} == texts


# What the schemas do not say: names that leave the folder, how often a text stands in another.
BEYOND_THE_SCHEMA = ("artifact ", "files ", "9 prompts")


@pytest.mark.parametrize("read", ["routing", "manifest", "conformance"])
def test_the_published_schemas_judge_the_shared_documents_alike(read: str) -> None:
    schema = json.loads((SCHEMAS / f"{read}.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    judged = 0
    for document in DOCUMENTS:
        if document["read"] != read or document["verdict"] == ErrorKind.NOT_JSON:
            continue
        lines = content(document).split(b"\n") if read == "conformance" else [content(document)]
        values = [parse_json(line) for line in lines if line.strip()]
        fits = all(validator.is_valid(value) for value in values)
        if document["verdict"] == "taken":
            assert fits, document["name"]
        elif not document["name"].startswith(BEYOND_THE_SCHEMA):
            assert not fits, document["name"]
        judged += 1
    assert judged > 50
