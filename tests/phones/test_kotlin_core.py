"""The Kotlin core decides and tokenizes as Python does: its own tests, on shared cases and on fresh ones made here."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from edgekit.bundle.load import open_bundle
from edgekit.routing.decoder import RoutingDecoder
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary
from edgekit.verify.device_report import ordered_cases, read_device_report

ROOT = Path(__file__).parents[2]
ANDROID = ROOT / "android_demo"
SCRIPT = ANDROID / "test-on-host.sh"
CANNOT_RUN = 77
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.slow  # its compiler takes most of a minute
def test_the_kotlin_core_agrees_with_python(tmp_path: Path) -> None:
    write_cases(tmp_path)
    print(run_kotlin(str(tmp_path)))
    check_reports(tmp_path)


@pytest.mark.slow
def test_real_tokenizers_give_hugging_face_s_ids(real_cases: Any) -> None:
    said = run_kotlin(str(real_cases.folder))
    found = {name: int(count) for count, name in re.findall(r"(\d+) texts of (\w+)", said)}
    assert {name: found[name] for name in real_cases.counts} == real_cases.counts


@pytest.mark.slow
def test_151_000_tokens_open_within_150_mb_of_heap(real_tokenizers: dict[str, Path]) -> None:
    said = run_kotlin("--load", str(real_tokenizers["qwen3"]))
    heap = re.search(r"(\d+) MB of heap", said)
    assert heap
    assert int(heap[1]) < 150
    print(said)


def run_kotlin(*arguments: str) -> str:
    """What the core's test program says; skips, with the reason, where it cannot be compiled."""
    absent = [tool for tool in ("java", "npm") if shutil.which(tool) is None]
    if absent:
        pytest.skip(f"the Kotlin core was not tested: {' and '.join(absent)} not found. Install a JDK 17 and Node.js.")
    run = subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).strip().splitlines()
    if run.returncode == CANNOT_RUN:
        pytest.skip(lines[-1])
    assert run.returncode == 0, "\n".join([line for line in lines if not line.startswith("ok ")][-40:])
    return run.stdout


def check_reports(folder: Path) -> None:
    """The device reports that the Kotlin self-test wrote are what ``edgekit verify --device-report`` reads."""
    report = read_device_report(folder / "device-report.json")
    assert [case.outcome for case in report.cases] == ["MATCH", "MISMATCH"]
    for path in sorted(folder.glob("device-report-*.json")):
        bundle = open_bundle(ROOT / "out" / "demo" / path.stem.removeprefix("device-report-"))
        report = read_device_report(path)
        expected = [bundle.expected(case).token_ids for case in bundle.conformance()]
        assert [case.decision().token_ids for case in ordered_cases(report, bundle)] == expected


def test_the_core_uses_nothing_but_java_and_kotlin() -> None:
    sources = (ROOT / "android_demo" / "core" / "src" / "main").rglob("*.kt")
    imports = {line for path in sources for line in re.findall(r"^import ([\w.]+)", path.read_text(), re.M)}
    assert imports
    assert not {name for name in imports if not name.startswith(("java.", "kotlin.", "kotlinx.coroutines."))}


@pytest.mark.parametrize("module", ["onnxruntime", "executorch"])
def test_an_adapter_is_thin_and_a_library_of_its_own(module: str) -> None:
    folder = ANDROID / module
    for source in (folder / "src" / "main" / "kotlin" / "ai" / "edgekit" / module).glob("*.kt"):
        assert len(source.read_text().splitlines()) < 140
    build = (folder / "build.gradle.kts").read_text()
    assert all(part in build for part in ("explicitApi()", "`maven-publish`", f'artifactId = "{module}"'))
    assert "-keep class" in (folder / "consumer-rules.pro").read_text()
    assert f'":{module}"' in (ANDROID / "settings.gradle.kts").read_text()


def test_the_app_uses_the_libraries_and_nothing_of_a_runtime() -> None:
    app = (ANDROID / "app" / "src" / "main").rglob("*.kt")
    imports = {line for path in app for line in re.findall(r"^import ([\w.]+)", path.read_text(), re.M)}
    assert not {name for name in imports if name.startswith(("ai.onnxruntime.", "org.pytorch."))}


def test_the_guide_s_lines_are_those_that_are_tested() -> None:
    tested = (ANDROID / "core/src/test/kotlin/ai/edgekit/core/HybridTests.kt").read_text()
    (lines,) = re.findall(r"// guide: begin\n(.*?) *// guide: end", tested, re.S)
    assert f"```kotlin\n{dedent(lines)}```" in (ANDROID / "README.md").read_text()


def test_plain_http_goes_where_the_client_lets_it_and_no_further() -> None:
    config = ElementTree.parse(ANDROID / "app/src/main/res/xml/network_security_config.xml")
    allowed = {domain.text for domain in config.iter("domain")}
    client = (ANDROID / "core/src/main/kotlin/ai/edgekit/core/CloudClient.kt").read_text()
    (hosts,) = re.findall(r"THIS_MACHINE = setOf\((.*?)\)", client)
    assert allowed == set(re.findall(r'"(.*?)"', hosts))
    assert [base.get("cleartextTrafficPermitted") for base in config.iter("base-config")] == ["false"]


def test_every_string_is_there_in_both_languages_with_the_same_places() -> None:
    found = []
    for folder in ("values", "values-de"):
        strings = ElementTree.parse(ANDROID / "app/src/main/res" / folder / "strings.xml").iter("string")
        translated = [item for item in strings if item.get("translatable") != "false"]
        found.append({item.get("name"): sorted(re.findall(r"%\d\$[ds]", item.text or "")) for item in translated})
    assert found[0] == found[1]
    used = {name for path in (ANDROID / "app/src/main").rglob("*.kt")
            for name in re.findall(r"R\.string\.(\w+)", path.read_text())}  # fmt: skip
    assert used == set(found[0])


def test_the_workflow_builds_the_app_and_the_libraries_with_the_wrapper_s_gradle() -> None:
    (job,) = yaml.safe_load((ROOT / ".github/workflows/android.yml").read_text())["jobs"].values()
    wrapper = (ANDROID / "gradle/wrapper/gradle-wrapper.properties").read_text()
    (version,) = [step["with"]["gradle-version"] for step in job["steps"] if "setup-gradle" in step.get("uses", "")]
    assert f"gradle-{version}-bin.zip" in wrapper
    (command,) = [step["run"].split() for step in job["steps"] if "run" in step]
    assert command[:3] == ["gradle", "-p", ANDROID.name]
    assert {"check", "assembleDebug", "publishToMavenLocal"} <= set(command)


def test_a_model_s_files_lie_uncompressed_in_the_app() -> None:
    (listed,) = re.findall(r"noCompress \+= listOf\((.*?)\)", (ANDROID / "app/build.gradle.kts").read_text())
    assert {"onnx", "onnx_data", "data", "pte"} <= set(re.findall(r'"(\w+)"', listed))
    manifest = ElementTree.parse(ANDROID / "app/src/main/AndroidManifest.xml")
    (application,) = manifest.iter("application")
    own = "{http://schemas.android.com/apk/res/android}"
    assert application.get(f"{own}largeHeap") == "true"
    assert application.get(f"{own}allowBackup") == "false"  # the key and the log stay on the phone


def test_gradlew_says_how_to_get_the_jar_that_is_not_in_the_repository(tmp_path: Path) -> None:
    shutil.copytree(ANDROID / "gradle", tmp_path / "gradle")
    shutil.copy(ANDROID / "gradlew", tmp_path)
    (tmp_path / "gradle" / "wrapper" / "gradle-wrapper.jar").unlink(missing_ok=True)
    run = subprocess.run([str(tmp_path / "gradlew"), "tasks"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    wanted = re.search(r"gradle-([\d.]+)-bin", (ANDROID / "gradle/wrapper/gradle-wrapper.properties").read_text())
    assert wanted
    assert "no Java" in run.stderr or f"--gradle-version {wanted[1]}" in run.stderr


def write_cases(folder: Path) -> None:
    """Cases of the shared files' formats that nobody committed: random token streams, made-up tokenizers."""
    generator = random.Random(5)
    (folder / "decoder_cases_random.json").write_text(json.dumps(decoder_cases(generator)))
    (folder / "tokenizer_cases_random.json").write_text(json.dumps(tokenizer_cases(folder, generator)))


def decoder_cases(generator: random.Random) -> dict[str, Any]:
    """2,000 random streams over the shared cases' pieces, and what Python's decoder makes of each."""
    shared = json.loads((ROOT / "tests" / "conformance" / "decoder_cases.json").read_text())
    pieces = {int(i): text.encode() for i, text in shared["pieces"].items()}
    pieces |= {int(i): bytes.fromhex(text) for i, text in shared["byte_pieces"].items()}
    spec, vocabulary = RoutingSpec.model_validate(shared["routing"]), Vocabulary(pieces)
    cases = []
    for number in range(2000):
        route = generator.choice(["cloud", "local"])
        decoder = RoutingDecoder(spec.model_copy(update={"on_no_answer": route}), vocabulary)
        tokens = generator.choices(sorted(pieces), k=generator.randrange(24))
        for token in tokens:
            decoder.push(token)
        decision = decoder.finish()
        expect = {name: getattr(decision, name) for name in ("route", "reason", "text", "answer")}
        case = {"name": f"random {number}", "token_ids": tokens, "on_no_answer": route, "expect": expect}
        cases.append(case | {"token_count": len(decision.token_ids)})
    return {name: shared[name] for name in ("routing", "pieces", "byte_pieces")} | {"cases": cases}


def tokenizer_cases(folder: Path, generator: random.Random) -> dict[str, Any]:
    """Random texts through small tokenizers with what the two shared ones lack."""
    texts = [random_text(generator) for _ in range(300)]
    cases, paths = [], {}
    for name, tokenizer in made_up_tokenizers(texts):
        tokenizer.save(str(folder / f"{name}.json"))
        paths[name] = f"{name}.json"
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            cases.append({"tokenizer": name, "text": text, "ids": ids})
    return {"tokenizers": paths, "cases": cases}


def random_text(generator: random.Random) -> str:
    """A mixture of scripts, digits, white space, decomposed letters, emoji and added tokens."""
    parts = ("a", "the", "I'll", "'S", "\u017f", "e\u0301", "\u00e9", "\ufb01", "12", "345678", "\u0663", "\u00bd",
             " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\x1c", "\U0001f600", "\u4f60\u597d", "?!", "<tool>",
             "<tool>2", "word", "swords", "<|end|>", "_", "\u0301", "\u200d", "\x00", "\uac00",
             "\u1112\u1161")  # fmt: skip
    return "".join(generator.choices(parts, k=generator.randrange(1, 20)))


def made_up_tokenizers(texts: list[str]) -> Iterator[tuple[str, Tokenizer]]:
    """Every pre-tokenizer, normalizer and flag that the Kotlin tokenizer says it reads."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    added = [AddedToken("<|end|>", special=True, normalized=False), AddedToken("<tool>", normalized=False),
             AddedToken("<tool>2", normalized=False, lstrip=True, rstrip=True),
             AddedToken("word", normalized=True, single_word=True)]  # fmt: skip
    splits = {
        "llama3": pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        "inverted": pre_tokenizers.Split(Regex(LLAMA3), "removed", invert=True),
        "string": pre_tokenizers.Split(" ", "isolated"),
        "digits": pre_tokenizers.Digits(individual_digits=True),
        "digit_runs": pre_tokenizers.Digits(individual_digits=False),
    }
    for name, split in splits.items():
        tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
        tokenizer.normalizer = normalizers.NFC() if name != "string" else normalizers.NFKD()
        last = pre_tokenizers.ByteLevel(add_prefix_space=True) if "digit" in name else byte_level
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, last])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.add_tokens(added[1:])
        tokenizer.add_special_tokens(added[:1])
        yield name, tokenizer
