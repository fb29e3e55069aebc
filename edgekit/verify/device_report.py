"""The report that a phone app's self-test writes: its schema (docs/device-report.md), and reading it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekit.bundle.load import Bundle
from edgekit.bundle.manifest import MANIFEST
from edgekit.errors import BundleError
from edgekit.routing.decoder import Decision, Route

REPORT_FORMAT = "edgekit-device-report"
REPORT_VERSION = 1


class Part(BaseModel):
    """A part of the report. Apps may write more than is read here."""

    model_config = ConfigDict(frozen=True, strict=True)


class ReportedBundle(Part):
    """The bundle that ran: the hash of its manifest.json pins every file in it."""

    manifest_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    target: str
    recipe: str


class DeviceFacts(Part):
    """The phone."""

    model: str
    os: str


class NamedVersion(Part):
    """The app, or the runtime that ran the artifact."""

    name: str
    version: str


class ReportedCase(Part):
    """What the phone did with one conformance case.

    ``prompt_token_ids`` are its own tokenizer's. ``marker_margin`` is null if it was not finite. ``outcome`` says
    whether route, reason and answer were the quantized reference's.
    """

    id: str
    prompt_token_ids: list[int]
    token_ids: list[int]
    route: Route
    reason: Literal["answer", "marker", "no_answer"]
    text: str
    answer: str | None
    marker_margin: float | None = Field(allow_inf_nan=False)
    marker_bias: float = Field(allow_inf_nan=False)
    outcome: Literal["MATCH", "MISMATCH"]
    prefill_ms: float = Field(ge=0, allow_inf_nan=False)
    decode_ms: float = Field(ge=0, allow_inf_nan=False)

    def decision(self) -> Decision:
        """The decision reported here."""
        margin = float("-inf") if self.marker_margin is None else self.marker_margin
        ids = tuple(self.token_ids)
        return Decision(self.route, self.reason, self.text, self.answer, ids, margin, len(self.prompt_token_ids))


class DeviceReport(Part):
    """The whole file."""

    format: Literal["edgekit-device-report"]
    version: Literal[1]
    bundle: ReportedBundle
    device: DeviceFacts
    app: NamedVersion
    runtime: NamedVersion
    cases: list[ReportedCase]
    matched: int = Field(ge=0)
    mismatched: int = Field(ge=0)


def report_schema() -> dict[str, Any]:
    """The JSON schema of a device report (JSON Schema 2020-12)."""
    schema = DeviceReport.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": REPORT_FORMAT, **schema}


def read_device_report(path: Path) -> DeviceReport:
    """Read ``path``. Raises :class:`BundleError`: absent, no report, newer, or wrong (every fault named, up to 3)."""
    again = "Run the app's self-test again and export its report."
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
    except FileNotFoundError:
        raise BundleError(f"no device report: {path}. There is no such file. Check the path.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"unreadable device report: {path}. {error}. {again}") from None
    if not isinstance(data, dict) or data.get("format") != REPORT_FORMAT:
        raise BundleError(f"not a device report: {path}. Its format is not {REPORT_FORMAT}. Check the path.")
    version = data.get("version")
    if isinstance(version, int) and version > REPORT_VERSION:
        raise BundleError(
            f"newer device report: {path}. Version {version}, known up to {REPORT_VERSION}. Update edgekit."
        )
    try:
        report = DeviceReport.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(f"bad device report: {path}. {_faults(error)}. {again}") from None
    matched = sum(case.outcome == "MATCH" for case in report.cases)
    if (report.matched, report.mismatched) != (matched, len(report.cases) - matched):
        counted = f"It counts {report.matched} and {report.mismatched}, its cases are {matched} MATCH"
        raise BundleError(f"bad device report: {path}. {counted} of {len(report.cases)}. {again}")
    return report


def _faults(error: ValidationError) -> str:
    found = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more


def ordered_cases(report: DeviceReport, bundle: Bundle) -> list[ReportedCase]:
    """The report's cases in the order of ``bundle``'s.

    Raises :class:`BundleError` if the report is of another bundle, or does not hold every case once at its bias.
    """
    what = f"device report of {report.device.model}"
    manifest = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
    if report.bundle.manifest_sha256 != manifest:
        raise BundleError(
            f"wrong bundle: {bundle.path}. The {what} is of a {report.bundle.target} bundle ({report.bundle.recipe}) "
            f"whose manifest is {report.bundle.manifest_sha256[:12]}, this one's is {manifest[:12]}. "
            "Give the bundle that is on the phone, or run the self-test with this one."
        )
    expected = {case.id: case for case in bundle.conformance()}
    if not expected:
        raise BundleError(f"nothing to compare: {bundle.path}. It has no conformance case. Export it with prompts.")
    found = {case.id: case for case in report.cases}
    again = "Run the whole self-test again."
    if len(found) != len(report.cases):
        raise BundleError(f"bad {what}: {len(report.cases)} cases. Only {len(found)} have an id of their own. {again}")
    if unknown := [name for name in found if name not in expected]:
        raise BundleError(f"bad {what}: {unknown[0]}. The bundle has no such case. {again}")
    if missing := [name for name in expected if name not in found]:
        first = f"{len(missing)} of {len(expected)} cases are missing, first {missing[0]}"
        raise BundleError(f"incomplete {what}: {len(found)} cases. {first}. {again}")
    for name, case in expected.items():
        if found[name].marker_bias != case.marker_bias:
            biases = f"It was decoded at a marker bias of {found[name].marker_bias}, not {case.marker_bias}"
            raise BundleError(f"bad {what}: {name}. {biases}. {again}")
    return [found[name] for name in expected]
