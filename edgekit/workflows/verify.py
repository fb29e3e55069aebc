"""Verifying a bundle here, or a phone by its report, with the task, the prompts and the policy they need."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from edgekit.atomic_write import require_place
from edgekit.bundle.archive import opened_bundle
from edgekit.bundle.load import Bundle
from edgekit.bundle.manifest import read_manifest
from edgekit.bundle.signature import check_signature
from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import BundleError, ErrorKind
from edgekit.evaluate.records import write_records
from edgekit.policy.checkpoint import Policy
from edgekit.progress import Progress
from edgekit.tasks import get_task
from edgekit.tasks.answered import can_grade
from edgekit.verify.check import verify_bundle
from edgekit.verify.device_check import DeviceVerdict
from edgekit.verify.device_check import verify_device as check_device
from edgekit.verify.device_report import read_device_report
from edgekit.verify.judge import Thresholds
from edgekit.verify.report import VerifyReport
from edgekit.workflows.prompts import rounded_on
from edgekit.workflows.source import AnyPath, load_policy, source_task, task_for, task_of


def verify(
    bundle: AnyPath | Bundle,
    reference: AnyPath | Policy | None = None,
    *,
    n: int = 500,
    seed: int = 0,
    task: str | None = None,
    min_agreement: float | None = None,
    min_lowering: float | None = None,
    signed_by: str | None = None,
    results: AnyPath | None = None,
    on_progress: Progress | None = None,
) -> VerifyReport:
    """Run the bundle's artifact on this host and compare its decisions with the reference's.

    ``bundle`` is a folder, an archive that ``edgekit pack`` made, or an opened one.
    ``reference`` is the run that the bundle was made from: it decides ``n`` held-out problems drawn with ``seed``.
    Without it the responses recorded in the bundle serve. ``min_agreement`` and ``min_lowering`` are shares of
    decisions that must agree where each side writes freely, in all and in the lowering hop; None: not judged. The
    report says whether the artifact loses anything; nothing is raised for a mismatch, which unreadable routing data
    is too. ``signed_by`` is the public key of who must have signed the archive: its text, or a file of minisign's.
    ``results`` is a file for a line of JSON a prompt: what the reference, its quantized twin and the artifact decided;
    none where nothing was compared. Raises :class:`EdgekitError` for thresholds that are no shares, for a bundle or a
    run that cannot be read, and before the work where ``results`` cannot be written; CheckFailed if that signature is
    not there or wrong.
    """
    limits = Thresholds(min_agreement=min_agreement, min_lowering_agreement=min_lowering)
    if results is not None:
        require_place(Path(results))
    report = _verify_here(bundle, reference, n, seed, task, limits, signed_by, on_progress)
    if results is not None:
        write_records(Path(results), report.records)
    return report


def _verify_here(
    bundle: AnyPath | Bundle,
    reference: AnyPath | Policy | None,
    n: int,
    seed: int,
    task: str | None,
    limits: Thresholds,
    signed_by: str | None,
    on_progress: Progress | None,
) -> VerifyReport:
    with ExitStack() as held:
        try:
            opened = _opened(bundle, held, signed_by)
        except BundleError as error:
            folder = Path(str(bundle))
            if error.kind not in (ErrorKind.NOT_JSON, ErrorKind.BAD_FIELD) or folder.is_file():
                raise
            read_manifest(folder)  # raises if it is the manifest that is wrong
            return VerifyReport(False, "MISMATCH", "none", 0, faults=[f"lowering: {error}"])
        return _verify_opened(opened, reference, n, seed, task, limits, on_progress)


def _verify_opened(
    opened: Bundle,
    reference: AnyPath | Policy | None,
    n: int,
    seed: int,
    task: str | None,
    limits: Thresholds,
    on_progress: Progress | None,
) -> VerifyReport:
    policy = _reference(reference)
    # Recorded decisions are all that is needed, but for accuracies: bundles of unknown tasks are verified too.
    name = _task_with(opened, reference, task) if policy else None
    chosen = get_task(name) if name else task_for(opened, task)
    grades = chosen if chosen is not None and can_grade(chosen) else None
    return verify_bundle(
        opened,
        policy,
        chosen.problems("test", n, seed) if policy and chosen else [],
        grades,
        OracleCloud(grades) if grades else None,
        calibration_prompts=rounded_on(opened, name) if policy and name else [],
        limits=limits,
        on_progress=on_progress,
    )


def verify_device(
    bundle: AnyPath | Bundle,
    device_report: AnyPath,
    reference: AnyPath | Policy | None = None,
    *,
    task: str | None = None,
    min_agreement: float | None = None,
    min_lowering: float | None = None,
    signed_by: str | None = None,
    on_progress: Progress | None = None,
) -> DeviceVerdict:
    """Judge a phone by its self-test's report, on the bundle's recorded prompts; otherwise as :func:`verify`."""
    limits = Thresholds(min_agreement=min_agreement, min_lowering_agreement=min_lowering)
    phone = read_device_report(Path(device_report))
    with ExitStack() as held:
        opened = _opened(bundle, held, signed_by)
        policy = _reference(reference)
        return check_device(
            opened,
            phone,
            policy,
            calibration_prompts=rounded_on(opened, _task_with(opened, reference, task)) if policy else [],
            limits=limits,
            on_progress=on_progress,
        )


def _opened(bundle: AnyPath | Bundle, held: ExitStack, signed_by: str | None) -> Bundle:
    """The bundle itself, or that in a folder or an archive, which lies unpacked until ``held`` is left.

    Nothing of an archive is read before its signature is.
    """
    if signed_by is not None:
        check_signature(Path(bundle.name if isinstance(bundle, Bundle) else bundle), signed_by)
    return bundle if isinstance(bundle, Bundle) else held.enter_context(opened_bundle(Path(bundle)))


def _task_with(bundle: Bundle, reference: AnyPath | Policy | None, given: str | None) -> str:
    """The task whose problems a bundle's reference decides: ``given``, the bundle's, or the run's own."""
    if given is None and source_task(bundle) is None and isinstance(reference, str | os.PathLike):
        return task_of(Path(reference), None)
    return task_of(bundle.path, given)


def _reference(reference: AnyPath | Policy | None) -> Policy | None:
    return reference if reference is None or isinstance(reference, Policy) else load_policy(reference)
