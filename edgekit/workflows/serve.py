"""A hybrid session as a user describes it, and the server around it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekit.cloud.request import Price
from edgekit.errors import BackendMissing, EdgekitError, install_hint
from edgekit.hybrid.audit import AuditLog
from edgekit.hybrid.budget import Budget, parse_limits
from edgekit.hybrid.redaction import Redactor, read_names
from edgekit.hybrid.session import Consent, HandOffRules, HybridSession
from edgekit.tasks import get_task
from edgekit.workflows.answer import chat_cloud
from edgekit.workflows.source import DEFAULT_TASK, AnyPath, open_cloud, open_device, task_for

if TYPE_CHECKING:
    from edgekit.bundle.load import Bundle
    from edgekit.cloud.client import Cloud
    from edgekit.serve.server import Server

SERVE_KEY_VARIABLE = "EDGEKIT_SERVE_API_KEY"
LOOPBACK = "127.0.0.1"


class PriceLine(BaseModel):
    """One line of a price table, US dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid", strict=True)
    prompt: float = Field(ge=0, lt=1e6, allow_inf_nan=False)
    completion: float = Field(ge=0, lt=1e6, allow_inf_nan=False)

    def price(self) -> Price:
        """The line as the runtime takes it."""
        return Price(self.prompt, self.completion)


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
    root = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(root) / "edgekit"


def open_server(
    source: AnyPath,
    *,
    host: str = LOOPBACK,
    port: int = 8321,
    task: str | None = None,
    cloud: str | Cloud | None = "oracle",
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
    session, cases = open_session(source, task=task, cloud=cloud, options=options), recorded_cases(source)
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
    cloud: str | Cloud | None = "oracle",
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
    chosen = task_for(source, task) or get_task(DEFAULT_TASK)
    behind = chat_cloud(open_cloud(cloud, chosen), chosen)
    if behind is None and (options.budget or options.prices is not None or options.consent != "always"):
        raise EdgekitError("no cloud: nothing can leave. Budget, prices and consent would do nothing. Leave them out.")
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


def read_price(path: Path, model: str) -> Price:
    """The price of ``model`` in a YAML table of MODEL: {prompt: USD, completion: USD}, both a million tokens.

    Raises :class:`EdgekitError` if the file or the model's line is not there or makes no sense.
    """
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise EdgekitError(f"cannot read prices: {path}. {' '.join(str(error).split())[:120]}. Give YAML.") from None
    line = table.get(model) if isinstance(table, dict) else None
    try:
        return PriceLine.model_validate(line).price()
    except ValidationError:
        how = f"Write {model}: {{prompt: USD, completion: USD}}, for a million tokens each"
        raise EdgekitError(f"no price: {model} in {path}. It has no such line. {how}.") from None


def recorded_cases(source: AnyPath) -> list[dict[str, Any]]:
    """For the page's slider: of each recorded case, the bias from which it calls, and whether its own answer is right.

    Empty for a run, whose policy has no recorded cases.
    """
    from edgekit.bundle.load import open_bundle
    from edgekit.workflows.source import is_bundle

    if not is_bundle(Path(source)):
        return []
    bundle = open_bundle(Path(source))
    task = task_for(bundle, None)
    cases = []
    for case in bundle.conformance():
        problem = None if task is None else task.parse(case.prompt)
        alone = case.quantized_reference
        right = None if task is None or problem is None else task.grade(problem, alone.answer)
        margin = case.call_margin if math.isfinite(case.call_margin) else None
        cases.append({"prompt": case.prompt, "margin": margin, "called": alone.route == "cloud", "right": right})
    return cases
