"""The cloud a user names on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from edgekit.cloud.address import address_fault, model_and_address
from edgekit.cloud.client import Cloud
from edgekit.cloud.openai_client import LONGEST_SHOWN, CallLimits, OpenAICloud
from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import EdgekitError
from edgekit.tasks.base import Task

KEY_VARIABLE = "EDGEKIT_CLOUD_API_KEY"
TIMEOUT_VARIABLE = "EDGEKIT_CLOUD_TIMEOUT"
LONGEST_TIMEOUT_S = 3600.0
FORMS = "Use oracle, oracle:0.9, openai:MODEL@BASE_URL or none"


def parse_cloud(text: str, task: Task, environ: Mapping[str, str], limits: CallLimits | None = None) -> Cloud | None:
    """The cloud ``text`` names: ``oracle[:accuracy]``, ``openai:MODEL@BASE_URL`` or ``none``.

    The key of an OpenAI-compatible server is ``environ[EDGEKIT_CLOUD_API_KEY]``, and where that is not set and the
    address is OpenAI's own, ``environ[OPENAI_API_KEY]``; a server that asks for none needs none set. A call of it may
    take ``environ[EDGEKIT_CLOUD_TIMEOUT]`` seconds, without that what ``limits`` say. Raises :class:`EdgekitError` for
    anything else.
    """
    kind, _, rest = text.partition(":")
    if text == "none":
        return None
    if kind == "oracle":
        return OracleCloud(task, _accuracy(text, rest) if ":" in text else 1.0)
    if kind == "openai":
        place = model_and_address(rest)
        if place is None:
            shown = text.partition("://")[0][:LONGEST_SHOWN]  # what follows may hold a password
            raise EdgekitError(f"bad cloud: {shown}. It lacks a model or an http address. {FORMS}.")
        model, base_url = place
        rule = getattr(task, "rule", None)
        limits = _with_timeout(limits or CallLimits(), environ.get(TIMEOUT_VARIABLE, ""))
        return OpenAICloud(model, base_url, _key(base_url, environ), limits=limits, rule=rule)
    raise EdgekitError(f"unknown cloud: {text[:LONGEST_SHOWN]}. edgekit does not know it. {FORMS}.")


def _key(base_url: str, environ: Mapping[str, str]) -> str:
    own = environ.get(KEY_VARIABLE, "")
    is_openai = address_fault(base_url) is None and urlsplit(base_url).hostname == "api.openai.com"
    return own or (environ.get("OPENAI_API_KEY", "") if is_openai else "") or "none"


def _with_timeout(limits: CallLimits, seconds: str) -> CallLimits:
    if not seconds:
        return limits
    try:
        longest = float(seconds)
    except ValueError:
        longest = 0.0
    if not 0.0 < longest <= LONGEST_TIMEOUT_S:
        why = f"It is how many seconds a call of the cloud may take. Give a number up to {LONGEST_TIMEOUT_S:g}"
        raise EdgekitError(f"bad {TIMEOUT_VARIABLE}: {seconds[:LONGEST_SHOWN]}. {why}.")
    return replace(limits, seconds=longest)


def _accuracy(text: str, number: str) -> float:
    try:
        accuracy = float(number)
    except ValueError:
        accuracy = -1.0
    if not 0.0 <= accuracy <= 1.0:
        raise EdgekitError(f"bad cloud: {text}. The accuracy must lie between 0 and 1. {FORMS}.")
    return accuracy
