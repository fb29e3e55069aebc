"""An artifact's speed, memory and size: measured on this host, estimated for phones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit.bundle.load import Bundle
from edgekit.progress import Progress
from edgekit.simulate.devices import (
    Assumptions,
    Device,
    Estimate,
    assumptions,
    caveat,
    device_names,
    estimate,
    get_device,
)
from edgekit.simulate.measure import measure, sizes
from edgekit.simulate.workload import Workload, count_workload


@dataclass(frozen=True)
class PhoneEstimate:
    """What an artifact is estimated to need on a phone, and what that follows from."""

    name: str
    prompt_tokens: int
    estimate: Estimate
    facts: Device
    work: Workload
    assumptions: Assumptions

    @property
    def caveat(self) -> str | None:
        """Why the speeds are upper bounds, if they are."""
        return caveat(self.work)

    def numbers(self) -> dict[str, Any]:
        """The estimate alone, as JSON data."""
        return {"device": self.name, "prompt_tokens": self.prompt_tokens, **asdict(self.estimate)}

    def to_json(self) -> dict[str, Any]:
        """The estimate with what it follows from."""
        grounds = {"facts": asdict(self.facts), "work": asdict(self.work), "assumptions": asdict(self.assumptions)}
        return {"estimate": True, "caveat": self.caveat, **self.numbers(), **grounds}


def measure_here(
    bundle: Bundle, *, repeats: int = 5, prompt_tokens: int | None = None, on_progress: Progress | None = None
) -> dict[str, float]:
    """The medians of ``repeats`` measurements on this host; see :func:`edgekit.simulate.measure.measure`."""
    return measure(bundle, repeats, on_progress, prompt_tokens)


def estimate_phone(bundle: Bundle, name: str, prompt_tokens: int | None = None) -> PhoneEstimate:
    """What ``bundle``'s artifact would need on the phone ``name`` for a prompt of ``prompt_tokens``, by default 128.

    Raises :class:`EdgekitError` for a phone that edgekit does not know, or a prompt that does not fit.
    """
    facts, work = get_device(name), count_workload(bundle.manifest)
    tokens, steps = sizes(work.context_length, prompt_tokens)
    return PhoneEstimate(name, tokens, estimate(work, facts, tokens, steps), facts, work, assumptions())


def estimate_phones(bundle: Bundle, prompt_tokens: int | None = None) -> list[PhoneEstimate]:
    """The same for every phone that edgekit knows."""
    return [estimate_phone(bundle, name, prompt_tokens) for name in device_names()]
