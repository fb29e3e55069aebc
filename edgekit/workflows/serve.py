"""A hybrid session as a user describes it, and the server around it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgekit.cache import home_folder
from edgekit.errors import BackendMissing, EdgekitError, install_hint
from edgekit.hybrid.audit import AuditLog
from edgekit.hybrid.budget import Budget, parse_limits
from edgekit.hybrid.redaction import Redactor, read_names
from edgekit.hybrid.session import Consent, HandOffRules, HybridSession
from edgekit.tasks.answered import can_grade
from edgekit.workflows.behind import OWN, chat_cloud, cloud_behind, known_task
from edgekit.workflows.prices import read_price
from edgekit.workflows.source import AnyPath, open_device, task_for

if TYPE_CHECKING:
    from edgekit.bundle.load import Bundle
    from edgekit.cloud.client import Cloud
    from edgekit.serve.server import Server

SERVE_KEY_VARIABLE = "EDGEKIT_SERVE_API_KEY"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class HandOffOptions:
    """What may leave, as a user says it. ``state``: where budget and log are kept; None: nothing is."""

    budget: Sequence[str] = ()
    consent: Consent = "always"
    redact: bool = True
    names: Path | None = None
    region: str | None = None
    prices: Path | None = None
    on_failure: Literal["local", "say"] = "local"
    state: Path | None = None


def state_folder() -> Path:
    """Where budgets and logs lie, by the XDG convention."""
    root = os.environ.get("XDG_STATE_HOME") or home_folder("XDG_STATE_HOME") / ".local" / "state"
    return Path(root) / "edgekit"


def open_server(
    source: AnyPath,
    *,
    host: str = LOOPBACK,
    port: int = 8321,
    task: str | None = None,
    cloud: str | Cloud | None = OWN,
    options: HandOffOptions | None = None,
    queue: int = 64,
) -> Server:
    """The session of :func:`open_session` behind OpenAI's chat API at ``host``:``port``, not running yet.

    At most ``queue`` requests are under way or waiting. Beyond loopback those who ask need the key in the environment
    variable EDGEKIT_SERVE_API_KEY. Raises :class:`EdgekitError` if there is none, or for an address that cannot be
    had; :class:`BackendMissing` where what serves is not installed.
    """
    try:
        from edgekit.serve.app import ServeSettings, create_app
        from edgekit.serve.guard import is_loopback
        from edgekit.serve.server import Server
    except ImportError as error:
        raise BackendMissing(f"cannot serve: {error.name} is not installed. {install_hint('serve')}.") from None
    key = os.environ.get(SERVE_KEY_VARIABLE) or None
    if key is None and not is_loopback(host):
        raise EdgekitError(
            f"no key: {host} is open to others. Anyone could spend your budget. Set {SERVE_KEY_VARIABLE}."
        )
    session, cases = open_session(source, task=task, cloud=cloud, options=options), recorded_cases(source, task)
    settings = ServeSettings(
        model=Path(source).name or "edgekit",
        hosts=(LOOPBACK, "localhost", "::1", host),
        api_key=key,
        queue=queue,
        cases=lambda: cases,
    )
    return Server(create_app(session, settings), host, port)


def open_session(
    source: AnyPath | Bundle,
    *,
    task: str | None = None,
    cloud: str | Cloud | None = OWN,
    options: HandOffOptions | None = None,
) -> HybridSession:
    """The device model of ``source`` with ``cloud`` behind it, held to ``options``.

    Raises :class:`EdgekitError` for anything that is not as it must be, before the model is loaded.
    """
    options = options or HandOffOptions()
    if options.budget and options.state is None:
        raise EdgekitError("no place for the budget: None. It must outlive this process. Give a state folder.")
    limits = parse_limits(options.budget)
    if not options.redact and (options.names is not None or options.region is not None):
        raise EdgekitError("nothing to redact: redact is false. Names and region would do nothing. Leave them out.")
    redactor = None
    if options.redact:
        names = read_names(options.names) if options.names is not None else []
        redactor = Redactor(names, options.region)
    chosen = known_task(source, task)
    behind = chat_cloud(cloud_behind(source, cloud, chosen), chosen)
    if behind is None and (idle := [*_of_hand_offs(options), *(["consent"] if options.consent != "always" else [])]):
        raise EdgekitError(f"no cloud: nothing can leave. It reads no {', '.join(idle)}. Leave them out.")
    if options.consent == "never" and (idle := _of_hand_offs(options)):
        raise EdgekitError(f"consent never: nothing can leave. It reads no {', '.join(idle)}. Leave them out.")
    price = read_price(options.prices, behind.model) if options.prices is not None and behind is not None else None
    if price is None and any(limit.is_cost for limit in limits):
        raise EdgekitError("no price: the budget limits cost. Nobody knows what a token costs. Give --prices FILE.")
    rules = HandOffRules(
        consent=options.consent,
        budget=Budget(options.state / "budget.sqlite", limits) if options.state is not None else None,
        redactor=redactor,
        audit=AuditLog(options.state / "audit.jsonl") if options.state is not None else None,
        price=price,
        on_failure=options.on_failure,
    )
    return HybridSession(open_device(source), behind, rules)


def _of_hand_offs(options: HandOffOptions) -> list[str]:
    """Which of ``options`` that only say how something leaves are given."""
    given = {
        "budget": bool(options.budget),
        "prices": options.prices is not None,
        "names": options.names is not None,
        "region": options.region is not None,
        "redact": not options.redact,
    }
    return [name for name, is_given in given.items() if is_given]


def recorded_cases(source: AnyPath, task: str | None = None) -> list[dict[str, Any]]:
    """For the page's slider: of each recorded case, the bias from which it calls, and whether its own answer is right.

    Empty for a run, whose policy has no recorded cases.
    """
    from edgekit.bundle.load import open_bundle
    from edgekit.workflows.source import is_bundle

    if not is_bundle(Path(source)):
        return []
    bundle = open_bundle(Path(source))
    found = task_for(bundle, task)
    grader = found if found is not None and can_grade(found) else None
    cases = []
    for case in bundle.conformance():
        problem = None if grader is None else grader.parse(case.prompt)
        alone = case.quantized_reference
        right = None if grader is None or problem is None else grader.grade(problem, alone.answer)
        margin = case.call_margin if math.isfinite(case.call_margin) else None
        whatever = alone.route == "cloud" and alone.reason != "marker"  # for want of an answer, at any bias
        cases.append({"prompt": case.prompt, "margin": margin, "called": whatever, "right": right})
    return cases
