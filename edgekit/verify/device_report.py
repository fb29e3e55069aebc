"""The report that a phone app's self-test writes: its schema (docs/device-report.md), and reading it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edgekit.bundle.load import Bundle
from edgekit.bundle.manifest import MANIFEST
from edgekit.errors import BundleError, ErrorKind
from edgekit.json_document import DocumentFault, TokenId, check_document
from edgekit.plain_file import RECORD_BYTES, read_bytes
from edgekit.routing.decoder import Decision, Route

REPORT_FORMAT = "edgekit-device-report"
REPORT_VERSION = 1


class Part(BaseModel):
    """A part of the report. Apps may write more than is read here."""

    model_config = ConfigDict(frozen=True)


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
    prompt_token_ids: list[TokenId]
    token_ids: list[TokenId]
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
    version: int = Field(ge=1, le=REPORT_VERSION)
    bundle: ReportedBundle
    device: DeviceFacts
    app: NamedVersion
    runtime: NamedVersion
    cases: list[ReportedCase]
    matched: int = Field(ge=0)
    mismatched: int = Field(ge=0)


_TOLD = {
    ErrorKind.NOT_JSON: "unreadable device report: {path}. {fault}. {again}",
    ErrorKind.WRONG_FORMAT: "not a device report: {path}. {fault}. Check the path.",
    ErrorKind.NEWER: "newer device report: {path}. Its {fault}. Update edgekit.",
    ErrorKind.BAD_FIELD: "bad device report: {path}. {fault}. {again}",
}


def read_device_report(path: Path) -> DeviceReport:
    """Read ``path``. Raises :class:`BundleError`: absent, no report, newer, or wrong (every fault named, up to 3)."""
    again = "Run the app's self-test again and export its report."
    try:
        data = read_bytes(path, RECORD_BYTES)
        report = check_document(data, DeviceReport, newest=REPORT_VERSION, document_format=REPORT_FORMAT)
    except FileNotFoundError:
        why = "There is no such file. Check the path."
        raise BundleError(f"no device report: {path}. {why}", ErrorKind.ABSENT) from None
    except OSError as error:
        raise BundleError(f"unreadable device report: {path}. {error.strerror}. {again}") from None
    except DocumentFault as fault:
        raise BundleError(_TOLD[fault.kind].format(path=path, fault=fault, again=again), fault.kind) from None
    except ValueError as error:  # no plain file, or too large
        raise BundleError(f"unreadable device report: {path}. {error}. {again}") from None
    matched = sum(case.outcome == "MATCH" for case in report.cases)
    if (report.matched, report.mismatched) != (matched, len(report.cases) - matched):
        counted = f"It counts {report.matched} and {report.mismatched}, its cases are {matched} MATCH"
        raise BundleError(f"bad device report: {path}. {counted} of {len(report.cases)}. {again}", ErrorKind.BAD_FIELD)
    return report


def ordered_cases(report: DeviceReport, bundle: Bundle) -> list[ReportedCase]:
    """The report's cases in the order of ``bundle``'s.

    Raises :class:`BundleError` if the report is of another bundle, or does not hold every case once at its bias.
    """
    what = f"device report of {report.device.model}"
    manifest = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
    if report.bundle.manifest_sha256 != manifest:
        raise BundleError(
            f"wrong bundle: {bundle.name}. The {what} is of a {report.bundle.target} bundle ({report.bundle.recipe}) "
            f"whose manifest is {report.bundle.manifest_sha256[:12]}, this one's is {manifest[:12]}. "
            "Give the bundle that is on the phone, or run the self-test with this one."
        )
    expected = {case.id: case for case in bundle.conformance()}
    if not expected:
        raise BundleError(f"nothing to compare: {bundle.name}. It has no conformance case. Export it with prompts.")
    found = {case.id: case for case in report.cases}
    again = "Run the whole self-test again."
    if len(found) != len(report.cases):
        raise BundleError(f"bad {what}: {len(report.cases)} cases. Only {len(found)} have an id of their own. {again}")
    if unknown := [name for name in found if name not in expected]:
        raise BundleError(f"bad {what}: {unknown[0]}. The bundle has no such case. {again}")
    if missing := [name for name in expected if name not in found]:
        first = f"{len(missing)} of {len(expected)} cases are missing, first {missing[0]}"
        raise BundleError(f"incomplete {what}: {len(found)} cases. {first}. {again}")
    size, context = bundle.manifest.model.vocab_size, bundle.manifest.model.context_length
    for name, case in expected.items():
        ids, room = found[name].token_ids, context - len(case.prompt_token_ids)
        if not 0 < len(ids) <= room or any(not 0 <= i < size for i in ids):
            why = f"Its response has {len(ids)} tokens, {room} fit, with ids below {size}"
            raise BundleError(f"bad {what}: {name}. {why}. {again}")
        if found[name].marker_bias != case.bias(bundle.routing):
            biases = f"It was decoded at a marker bias of {found[name].marker_bias}, not {case.bias(bundle.routing)}"
            raise BundleError(f"bad {what}: {name}. {biases}. {again}")
    return [found[name] for name in expected]
