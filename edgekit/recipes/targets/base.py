"""What a target is, as data: its artifact, the numbers its kernels take, what it costs, who lowers and who runs it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Literal

from edgekit.errors import install_hint
from edgekit.recipes.quant_recipe import Activations, Cache, QuantRule

Setting = Literal["layout", "compute", "prefill_chunk"]
"""A setting of a recipe that only some targets read."""


@dataclass(frozen=True)
class Integers:
    """Integers a kernel takes: ``bits``, a scale (or a palette) for each group of a row's inputs (of output channels).

    ``multiple`` is what a group's length must be a multiple of, be the group a whole row; 0: whole rows only.
    """

    bits: Literal[4, 8]
    multiple: int
    palette: bool = False

    def might_take(self, rule: QuantRule) -> bool:
        """Whether ``rule`` asks for such integers, of a weight as wide as its group needs."""
        if (rule.bits, rule.palette) != (self.bits, self.palette):
            return False
        return rule.group_size % self.multiple == 0 if self.multiple else rule.group_size == 0

    def takes(self, rule: QuantRule, length: int) -> bool:
        """Whether ``rule`` asks for such integers and its groups divide ``length`` inputs (or output channels)."""
        group = rule.group_size or length
        if (rule.bits, rule.palette) != (self.bits, self.palette) or length % group:
            return False
        return group % self.multiple == 0 if self.multiple else group == length

    def __str__(self) -> str:
        if self.palette:
            return f"{self.bits} bits from palettes"
        if self.multiple == 0:
            return f"{self.bits} bits with one scale per output channel"
        return f"{self.bits} bits in groups" + (f" of multiples of {self.multiple}" if self.multiple > 1 else "")


@dataclass(frozen=True)
class Needs:
    """Packages that this host needs: to lower, and to run what was lowered. ``extra`` installs both."""

    lower: str
    run: str
    extra: str


@dataclass(frozen=True)
class Runtime:
    """The phone's runtime: its name, the distribution whose version is recorded, and how.

    ``untried`` is recorded where that distribution is not here: lowering may need less than running.
    """

    name: str
    distribution: str
    form: str = "{}"
    untried: str = ""

    def facts(self) -> dict[str, str]:
        """``name`` and ``version`` as a manifest has them."""
        try:
            version = importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            version = self.untried
        return {"name": self.name, "version": self.form.format(version)}


@dataclass(frozen=True)
class Target:
    """One phone format. Its line in ``TARGETS`` makes it known to recipes, export, simulators, estimates, commands."""

    name: str
    artifact: str
    """The model's file (or folder) in a bundle."""
    lowering: str
    """The module that writes it: ``edgekit.export.targets.Lowering`` says what it offers."""
    simulator: str
    """The module that runs it here: ``edgekit.simulate.Simulator`` says what it offers."""
    needs: Needs
    runtime: Runtime
    linears: tuple[Integers, ...]
    """The integers that its linears multiply."""
    tables: tuple[Integers, ...]
    """The integers that its embedding looks up."""
    activations: tuple[Activations, ...]
    """How the input of an integer linear may be rounded."""
    settings: frozenset[Setting]
    """The settings it reads of those that not every target does."""
    fine_group: int
    """Inputs that share a scale where all that matters is precision: what 8 bits get in a search or a fallback."""
    scale_bytes: int | None
    """Of a group's scale, or of a palette's colour; None: those of a float."""
    cache_bytes: int
    """Of one float in the KV cache."""
    shares_table: bool
    """Whether a tied embedding and head under one rule are stored once."""
    repacks: bool
    """Whether its runtime keeps its own copy of the weights beside the file."""
    caches: tuple[Cache, ...] = ("float",)
    """How its KV cache may hold numbers."""

    @property
    def chunked(self) -> bool:
        """Whether a prompt goes in by chunks of the recipe's ``prefill_chunk`` tokens, not in one call."""
        return "prefill_chunk" in self.settings

    @property
    def fine_rule(self) -> QuantRule:
        """8 bits for every weight, as this target runs them best."""
        return QuantRule(match="*", bits=8, group_size=self.fine_group)

    def missing_to_lower(self) -> str | None:
        """None if this host can lower to the target, else one sentence that says what to install."""
        return self._missing(self.needs.lower)

    def missing_to_run(self) -> str | None:
        """None if this host can run the target's artifacts, else one sentence that says what to install."""
        return self._missing(self.needs.run)

    def _missing(self, package: str) -> str | None:
        if importlib.util.find_spec(package) is not None:
            return None
        return f"{package} is not installed. {install_hint(self.needs.extra)}"
