"""The Swift core: the same files as Kotlin's, thin adapters, a whole project, and its own tests where Swift is."""

from __future__ import annotations

import json
import os
import plistlib
import re
import shutil
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[2]
IOS = ROOT / "ios_demo"
CORE = IOS / "Sources" / "EdgeCore"
KOTLIN = ROOT / "android_demo" / "core" / "src" / "main" / "kotlin" / "ai" / "edgekit" / "core"
SHARED = {
    "AddedTokens", "Bundle", "BundleDownload", "BundleManifest", "BytePairModel", "CheckMemory", "CloudBudget",
    "CloudClient", "CloudRequest", "Conformance", "DecisionRule", "DecodeLoop", "DeviceReport", "Errors",
    "GuardedModel", "HandOffLog", "HybridEvents", "HybridSession", "Json", "JsonFields", "JsonReader", "MemoryNeed",
    "PreTokenizer", "Replay", "RoutingDecoder", "RoutingSpec", "SelfTest", "TextNormalizer", "TokenTable", "Tokenizer",
    "TokenizerFile", "Utf8Decoder", "Vocabulary",
}  # fmt: skip
# Apple's "required reason" calls, by the category that a privacy manifest names.
NEEDS_A_REASON = {
    "ActiveKeyboards": r"\bactiveInputModes\b",
    "DiskSpace": r"\b(systemFreeSize|systemSize|volume\w*Capacity\w*|statfs|statvfs)\b",
    "FileTimestamp": r"\b(creationDate|modificationDate|content\w+Date\w*|f?stat)\b",
    "SystemBootTime": r"\b(systemUptime|mach_absolute_time|uptimeNanoseconds)\b",
    "UserDefaults": r"\bUserDefaults\b",
}
# What a view shows: a literal, or the two of a choice.
SHOWN = re.compile(
    r"\b(?:Button|LabeledContent|Tab|Section|Picker|SecureField|TextField|Text|ShareLink|alert|navigationTitle|accessibilityLabel)"
    r'\((?:[\w.]+ \? )?"((?:[^"\\]|\\.)*)"(?: : "([^"]*)")?'
)
VALUE = re.compile(r"\\\((?:[^()]|\([^()]*\))*\)")
NEUTRAL = {"MATCH", "MISMATCH", "edgekit", "https://host/bundle", "https://host/v1"}


def test_the_core_mirrors_kotlins_file_for_file() -> None:
    swift = {path.stem for path in CORE.glob("*.swift")}
    kotlin = {path.stem for path in KOTLIN.glob("*.kt")}
    assert swift >= SHARED
    assert kotlin >= SHARED
    # What Swift needs beside them: text as code points, a hash where there is no CryptoKit, a client fed by callbacks.
    assert swift - kotlin <= {"UnicodeText", "Sha256", "HttpTransport"}


def test_the_core_imports_foundation_only() -> None:
    imports = {
        line for path in CORE.glob("*.swift") for line in re.findall(r"^\s*import (\w+)", path.read_text(), re.M)
    }
    assert imports <= {"Foundation", "FoundationNetworking", "CryptoKit", "Dispatch"}


@pytest.mark.parametrize("name", ["CoreML", "ONNX", "ExecuTorch"])
def test_what_cannot_be_compiled_here_is_thin_and_a_product_of_the_package(name: str) -> None:
    (source,) = (IOS / "Sources" / f"Edge{name}").glob("*.swift")
    assert len(source.read_text().splitlines()) < 120
    assert f'"Edge{name}"' in (ROOT / "Package.swift").read_text()


def test_the_app_uses_the_products_and_nothing_of_a_runtime() -> None:
    imports = {
        line
        for path in (IOS / "App").glob("*.swift")
        for line in re.findall(r"^\s*import (\w+)", path.read_text(), re.M)
    }
    assert {name for name in imports if name.startswith("Edge")} == {
        "EdgeCore", "EdgeCoreML", "EdgeONNX", "EdgeExecuTorch",
    }  # fmt: skip
    assert not imports & {"CoreML", "OnnxRuntimeBindings", "ExecuTorch"}


def test_the_guide_s_lines_are_those_that_are_tested() -> None:
    tested = (IOS / "Tests" / "EdgeCoreTests" / "HybridSessionTests.swift").read_text()
    (lines,) = re.findall(r"// guide: begin\n(.*?) *// guide: end", tested, re.S)
    assert f"```swift\n{dedent(lines)}```" in (IOS / "README.md").read_text()


def test_the_app_declares_what_it_needs_of_the_system() -> None:
    plists = {name: plistlib.loads((IOS / "App" / name).read_bytes()) for name in (
        "Info.plist", "EdgekitDemo.entitlements", "PrivacyInfo.xcprivacy",
    )}  # fmt: skip
    assert plists["Info.plist"]["UIFileSharingEnabled"]
    assert plists["Info.plist"]["LSSupportsOpeningDocumentsInPlace"]
    assert plists["EdgekitDemo.entitlements"] == {"com.apple.developer.kernel.increased-memory-limit": True}
    assert plists["PrivacyInfo.xcprivacy"]["NSPrivacyTracking"] is False
    project = (IOS / "App" / "EdgekitDemo.xcodeproj" / "project.pbxproj").read_text()
    for name in (*plists, "Assets.xcassets", "Localizable.xcstrings"):
        assert f"path = {name};" in project
        assert (IOS / "App" / name).exists()


@pytest.mark.parametrize(("manifest", "sources"), [("App", ("App", "Sources")), (CORE, ("Sources/EdgeCore",))])
def test_a_privacy_manifest_gives_a_reason_for_every_call_that_needs_one(
    manifest: str | Path, sources: tuple[str, ...]
) -> None:
    text = "".join(path.read_text() for folder in sources for path in (IOS / folder).rglob("*.swift"))
    called = {kind for kind, calls in NEEDS_A_REASON.items() if re.search(calls, text)}
    entries = plistlib.loads((IOS / manifest / "PrivacyInfo.xcprivacy").read_bytes())["NSPrivacyAccessedAPITypes"]
    reasons = {entry["NSPrivacyAccessedAPIType"]: entry["NSPrivacyAccessedAPITypeReasons"] for entry in entries}
    assert set(reasons) == {f"NSPrivacyAccessedAPICategory{kind}" for kind in called}
    assert all(reasons.values())


def test_the_workflow_builds_the_app_by_a_scheme_that_is_there() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/macos.yml").read_text())["jobs"]
    commands = [step["run"] for step in jobs["swift"]["steps"] if "run" in step]
    assert "swift test" in commands
    (build,) = [command.split() for command in commands if command.startswith("xcodebuild build ")]
    project = ROOT / build[build.index("-project") + 1]
    scheme = project / "xcshareddata" / "xcschemes" / f"{build[build.index('-scheme') + 1]}.xcscheme"
    targets = {item.get("BlueprintIdentifier") for item in ElementTree.parse(scheme).iter("BuildableReference")}
    objects = (project / "project.pbxproj").read_text()
    (target,) = re.findall(r"(\w{24}) /\* \w+ \*/ = \{isa = PBXNativeTarget;", objects)
    assert targets == {target}


def test_the_xcode_project_holds_every_source_and_nothing_that_is_not_there() -> None:
    text = (IOS / "App" / "EdgekitDemo.xcodeproj" / "project.pbxproj").read_text()
    there = {path.name for path in (IOS / "App").glob("*.swift")}
    assert set(re.findall(r"(\w+\.swift) in Sources \*/ = ", text)) == there
    defined = set(re.findall(r"^\t\t([0-9A-F]{24}) ", text, re.M))
    assert set(re.findall(r"\b[0-9A-F]{24}\b", text)) == defined
    assert "path = Bundles;" in text
    assert (IOS / "App" / "Bundles").is_dir()


def test_every_translated_string_is_one_of_the_screens_and_every_label_is_translated() -> None:
    catalog = json.loads((IOS / "App" / "Localizable.xcstrings").read_text())["strings"]
    views = "".join(path.read_text() for path in (IOS / "App").glob("*.swift"))
    assert [key for key in catalog if f'"{key}"' not in views] == []
    literals = [text for first, second in SHOWN.findall(views) for text in (first, second) if text]
    labels = {text for text in literals if "\\(" not in text} | set(re.findall(r'"([^"\\]+)"\.localized', views))
    assert len(labels) > 40
    assert labels - set(catalog) - NEUTRAL == set()
    # Words around a value are no key of the catalog: they are formatted, or put together of what is translated.
    mixed = [text for text in literals if "\\(" in text] + re.findall(r'status = "([^"]*)"(?!\.localized)', views)
    assert [text for text in mixed if re.search(r"[A-Za-z]", VALUE.sub("", text))] == []


def test_a_translation_has_the_places_of_its_original() -> None:
    catalog = json.loads((IOS / "App" / "Localizable.xcstrings").read_text())["strings"]
    for key, entry in catalog.items():
        german = entry["localizations"]["de"]["stringUnit"]
        assert german["state"] == "translated"
        assert re.findall(r"%(?:ld|%)", german["value"]) == re.findall(r"%(?:ld|%)", key)


def test_no_signing_identity_and_no_bundle_is_committed() -> None:
    text = (IOS / "App" / "EdgekitDemo.xcodeproj" / "project.pbxproj").read_text()
    assert set(re.findall(r"DEVELOPMENT_TEAM = ([^;]*);", text)) == {'""'}
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(
        ["git", "ls-files", "ios_demo/App/Bundles"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert tracked == ["ios_demo/App/Bundles/README.md"]


def test_every_source_parses() -> None:
    tree_sitter = pytest.importorskip(
        "tree_sitter", reason="tree-sitter is not installed: pip install tree-sitter tree-sitter-swift"
    )
    grammar = pytest.importorskip("tree_sitter_swift", reason="tree-sitter-swift is not installed")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    sources = [path for folder in ("Sources", "Tests", "App", "Preview") for path in (IOS / folder).rglob("*.swift")]
    assert len(sources) > 30
    assert [path.name for path in sources if parser.parse(path.read_bytes()).root_node.has_error] == []


def swift_is_missing() -> str | None:
    """None if test-on-host.sh finds a toolchain, else why not."""
    root = Path(os.environ.get("EDGEKIT_SWIFT_ROOT", "/opt/swift-trixie"))
    if shutil.which("swift") or ((root / "usr/libexec/swift/bin/swift-frontend").exists() and os.geteuid() == 0):
        return None
    return "no Swift toolchain here: ios_demo/test-on-host.sh --install makes one on Debian"


def run_swift(*arguments: str, cases: Path | None = None) -> str:
    """What the Swift tests say, all of which held; skips where there is no Swift."""
    absent = swift_is_missing()
    if absent:
        pytest.skip(absent)
    environment = {**os.environ, **({"EDGEKIT_CASES": str(cases)} if cases else {})}
    command = [str(IOS / "test-on-host.sh"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.mark.slow
def test_the_swift_tests_pass() -> None:
    said = run_swift()
    executed = re.findall(r"Executed (\d+) tests, with (?:\d+ tests? skipped and )?0 failures", said)
    assert executed, said[-4000:]
    assert max(map(int, executed)) >= 20, said[-4000:]


@pytest.mark.slow
def test_real_tokenizers_give_hugging_face_s_ids(real_cases: Any) -> None:
    release = ("-c", "release", "-Xswiftc", "-enable-testing", "--filter", "TokenizerTests")
    said = run_swift(*release, cases=real_cases.folder)
    texts = next(line for line in said.splitlines() if line.startswith("tokenizer cases:"))
    found = {name: int(count) for name, count in re.findall(r'key: "(\w+)", value: (\d+)', texts)}
    assert {name: found[name] for name in real_cases.counts} == real_cases.counts
    print(*re.findall(r"^opened .*", said, re.M), sep="\n")
