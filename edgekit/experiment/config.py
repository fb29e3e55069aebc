"""An experiment: one YAML file or preset, checked whole with the training settings of every method in it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from edgekit.errors import ConfigError, EdgekitError
from edgekit.experiment.methods import BLIND, METHODS, RUNS, WARM_START, router_of, run_of
from edgekit.experiment.routers import ROUTERS
from edgekit.faults import faults_of
from edgekit.settings import Settings
from edgekit.tasks import resolve_task
from edgekit.train.config import LONGEST_SHOWN, TrainConfig, read_mapping, without_idle
from edgekit.train.config import load_config as load_train_config
from edgekit.warm_start.bases import absolute_base
from edgekit.yaml_document import parse_yaml

PRESETS = Path(__file__).parent / "presets"
FILE = "experiment.yaml"
NAME = r"[a-z][a-z0-9_]*"
OWN_KEYS = ("seed", "cloud", "algorithm")
SEED = "{seed}"
"""Training settings that the experiment gives itself."""
GROWING = ("methods", "seeds", "method_overrides")
"""What may be added to when an experiment goes on; everything else would make its results incomparable."""

Fraction = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=f"^{NAME}$")]


class ExperimentConfig(Settings):
    """Which methods, on which problems, under which budgets.

    ``train`` holds the training settings all methods share, ``method_overrides`` what a method changes in them; a
    name there that edgekit does not know makes a new method that decides by its marker (GAPG unless it names an
    ``algorithm``). ``problem_seed`` draws validation, test and router problems: not the seed of any training.
    """

    methods: tuple[Name, ...] = Field(min_length=1)
    """What is compared: edgekit's own methods, and new names from method_overrides."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    """Each method is trained and judged once for each."""
    call_fractions: tuple[Fraction, ...] = Field(default=(0.1, 0.2, 0.3, 0.5), min_length=1)
    """The shares of cloud calls at which every method is judged."""
    cloud: str = "oracle"
    """Who answers hand-offs: oracle[:accuracy] or openai:MODEL@BASE_URL."""
    n_validation: int = Field(default=1000, ge=1)
    """Held-out problems that thresholds are fitted on."""
    n_test: int = Field(default=1000, ge=1)
    """Held-out problems that the results are measured on."""
    n_router_train: int = Field(default=2000, ge=1)
    """Training problems whose local attempts are labelled to fit the routers."""
    router_encoder: str | None = None
    """A pretrained sequence encoder (hub name or folder) for the prompt and answer router, in place of the policy's own
    first blocks."""
    trigger_tries: int = Field(default=0, ge=0)
    """For each method, a prefix of eight tokens is searched that makes it call, trying so many tokens at each place; 0:
    no search."""
    problem_seed: int = Field(default=1000, ge=0)
    """Draws validation, test and router problems; not the seed of any training."""
    train: dict[str, Any] = Field(default_factory=dict)
    """The training settings that all methods share: a preset's name, a YAML file or a mapping. In a file,
    ``overrides`` beside it are settings on top. ``{seed}`` in ``base`` is the seed, for bases of their own."""
    method_overrides: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    """Per method, the training settings that it changes; a new name makes a new method."""

    @model_validator(mode="after")
    def _check(self) -> ExperimentConfig:
        faults = [
            f"{key}: named twice in {list(values)}"
            for key, values in (
                ("methods", self.methods),
                ("seeds", self.seeds),
                ("call_fractions", self.call_fractions),
            )
            if len(set(values)) < len(values)
        ]
        for method in self.methods:
            if method not in METHODS and method not in self.method_overrides:
                known = ", ".join(METHODS)
                faults.append(f"methods: unknown {method!r}, edgekit has {known}; method_overrides may define others")
        if self.router_encoder is not None and not any(_reads_texts(method) for method in self.methods):
            faults.append("router_encoder: no method compared is a classifier of texts, so it would do nothing")
        if self.trigger_tries and all(method in BLIND for method in self.methods):
            faults.append("trigger_tries: no method compared reads a prompt or its answer, so it would do nothing")
        if self.cloud == "none":
            faults.append("cloud: none cannot answer a call, use oracle")
        faults += _key_faults("train", self.train, OWN_KEYS)
        for method, overrides in self.method_overrides.items():
            if run_of(method) != method:
                faults.append(f"method_overrides.{method}: it is judged on the run of {run_of(method)}, override that")
            elif method == WARM_START:
                faults.append(f"method_overrides.{method}: it is not trained, so they would do nothing")
            own = (*OWN_KEYS, "task") if method in RUNS else ("seed", "cloud", "task")
            faults += _key_faults(f"method_overrides.{method}", overrides, own)
        if not faults:
            faults = [fault for run in (None, *self.runs()) for fault in self._train_faults(run)]
        if faults:
            raise ValueError("; ".join(dict.fromkeys(faults)))
        return self

    def _train_faults(self, run: str | None) -> list[str]:
        """What is wrong with the shared settings (None), or with those of ``run`` alone."""
        own = {} if run is None else self.method_overrides.get(run, {})
        try:
            config = TrainConfig.model_validate(self._shared() if run is None else self._settings(run, self.seeds[0]))
        except ValidationError as error:
            faults = []
            for fault in faults_of(error, TrainConfig):
                where = f"method_overrides.{run}" if fault.where.partition(".")[0] in own else "train"
                faults.append(f"{where}.{fault}" if fault.where else f"{run or 'train'}: {fault}")
            return faults
        return [f"{run or 'train'}: {problem}" for problem in config.grid_problems()]

    def _shared(self) -> dict[str, Any]:
        return without_idle(self.train)

    def _settings(self, run: str, seed: int) -> dict[str, Any]:
        own = {**RUNS.get(run, {}), **self.method_overrides.get(run, {})}
        given = {**self.train, **own, "seed": seed, "cloud": self.cloud}
        if isinstance(base := given.get("base"), str):
            given["base"] = base.replace(SEED, str(seed))
        # What all methods share need not mean anything to each of them.
        return without_idle(given, own)

    def runs(self) -> tuple[str, ...]:
        """The training runs of one seed, each once, in the order of the methods that need them."""
        return tuple(dict.fromkeys(run_of(method) for method in self.methods))

    def train_config(self, run: str, seed: int) -> TrainConfig:
        """The training configuration of ``run``."""
        return TrainConfig.model_validate(self._settings(run, seed))

    @property
    def reads_router_problems(self) -> bool:
        """Whether anything is fitted to the training problems for routers, or searched on them."""
        return bool(self.trigger_tries) or any(router_of(method) is not None for method in self.methods)

    @property
    def task(self) -> str:
        """The task's name."""
        return TrainConfig.model_validate(self._shared()).task

    def to_yaml(self) -> str:
        """The configuration as a YAML document that :func:`load_experiment_config` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _reads_texts(method: str) -> bool:
    router = router_of(method)
    return router is not None and ROUTERS[router].encoder_reads is not None


def _key_faults(where: str, settings: dict[str, Any], forbidden: tuple[str, ...]) -> list[str]:
    return [f"{where}.{key}: the whole experiment has one" for key in forbidden if key in settings]


def preset_names() -> list[str]:
    """The built-in presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_experiment_config(name_or_path: str, overrides: list[str] | None = None) -> ExperimentConfig:
    """A preset or a YAML file, with ``key=value`` overrides; dots reach inside (``overrides.steps=50``).

    In the file, ``train`` is a training preset, a training YAML or a mapping of settings, and ``overrides`` are
    settings on top of it; both end in ``train``, so that what is loaded says everything. Raises
    :class:`ConfigError` listing every problem.
    """
    path = Path(name_or_path)
    is_preset = not (path.suffix in (".yaml", ".yml") or path.is_file())
    if is_preset:
        if name_or_path not in preset_names():
            raise ConfigError(f"unknown experiment {name_or_path}", [f"edgekit has {', '.join(preset_names())}"])
        path = PRESETS / f"{name_or_path}.yaml"
    source = f"experiment {name_or_path}"
    data = read_mapping(path, "experiment")
    # A preset may say more than the methods that are chosen of it need; so may an experiment that is to grow.
    said = {} if is_preset or path.name == FILE else dict(data)
    named = said.get("method_overrides")
    own = list(named) if isinstance(named, dict) else []
    problems = [problem for override in overrides or [] for problem in _set(data, override)]
    problems += _resolve_train(data)
    config = _validated(source, data, problems)
    faults = _unused(config, [*own, *_overridden(overrides or [])])
    key = "n_router_train"
    asked = said.get(key, default := ExperimentConfig.model_fields[key].default) != default  # a copy says defaults too
    asked |= any(override.partition("=")[0].strip() == key for override in overrides or [])
    if asked and not config.reads_router_problems:
        faults.append(f"{key}: no method compared is a router, so it would do nothing")
    if faults:
        raise ConfigError(source, faults)
    return config


def grown(config: ExperimentConfig, overrides: list[str]) -> ExperimentConfig:
    """``config`` with methods, seeds or new method_overrides added. Raises :class:`ConfigError` for other changes."""
    source, data = "cannot go on with another experiment", config.model_dump(mode="json")
    problems = [problem for override in overrides for problem in _set(data, override)]
    new = _validated(source, data, problems)
    problems += _unused(new, _overridden(overrides))
    for key, old in config.model_dump().items():
        value = getattr(new, key)
        if key not in GROWING:
            if value != old:
                problems.append(f"{key}: {value!r}, the experiment has {old!r}")
        elif isinstance(old, dict):
            changed = [name for name in old if value.get(name) != old[name]]
            problems += [f"{key}.{name}: cannot change, give the method a new name" for name in changed]
        elif missing := [item for item in old if item not in value]:
            problems.append(f"{key}: can only grow, {list(value)} lacks {missing}")
    if problems:
        raise ConfigError(source, problems)
    return new


def _overridden(overrides: list[str]) -> list[str]:
    """The methods that texts ``method_overrides.NAME.key=value`` name."""
    paths = [text.partition("=")[0].split(".") for text in overrides]
    return [path[1].strip() for path in paths if path[0].strip() == "method_overrides" and len(path) > 1]


def _unused(config: ExperimentConfig, overridden: list[str]) -> list[str]:
    """What is wrong with naming ``overridden``: training settings of methods that ``config`` does not train."""
    idle = [name for name in dict.fromkeys(overridden) if name not in config.runs()]
    return [f"method_overrides.{name}: no method compared is trained by it, so it would do nothing" for name in idle]


def _validated(source: str, data: dict[str, Any], problems: list[str]) -> ExperimentConfig:
    try:
        config = ExperimentConfig.model_validate(data)
    except ValidationError as error:
        problems = problems + [str(fault) for fault in faults_of(error, ExperimentConfig)]
        raise ConfigError(source, problems) from None
    if problems:
        raise ConfigError(source, problems)
    return config


def _set(data: dict[str, Any], override: str) -> list[str]:
    """Put ``a.b=value`` into ``data``; returns what is wrong with it."""
    keys, equals, value = override.partition("=")
    *path, last = (key.strip() for key in keys.split("."))
    try:
        if not equals:
            raise ValueError("not key=value")
        for key in path:
            data = data.setdefault(key, {})
            if not isinstance(data, dict):
                raise ValueError(f"{key} holds no keys")
        data[last] = parse_yaml(value)
    except ValueError as error:
        return [f"--set {override[:LONGEST_SHOWN]}: {' '.join(str(error).split())}"]
    return []


def _resolve_train(data: dict[str, Any]) -> list[str]:
    """Put the training preset and the overrides together in ``data["train"]``; returns the problems."""
    problems = []
    train, shared = data.get("train", "default"), data.pop("overrides", None) or {}
    if isinstance(train, str):
        try:
            settings = load_train_config(train).model_dump(mode="json")
            train = {key: value for key, value in settings.items() if key not in OWN_KEYS}
        except EdgekitError as error:
            found = error.problems if isinstance(error, ConfigError) else [str(error)]
            problems += [f"train: {train!r}: {problem}" for problem in found]
            train = {}
    if not (isinstance(train, dict) and isinstance(shared, dict)):
        return [*problems, "train, overrides: not a preset's name and a mapping of settings"]
    data["train"] = {**train, **shared}
    each = data.get("method_overrides")
    for settings in (data["train"], *(each.values() if isinstance(each, dict) else ())):
        if isinstance(settings, dict) and isinstance(base := settings.get("base"), str):
            settings["base"] = absolute_base(base)  # an experiment goes on from anywhere
    if isinstance(task := data["train"].get("task"), str):
        with suppress(EdgekitError):  # its settings are checked as a whole, which says what is wrong
            data["train"]["task"] = resolve_task(task)
    return problems
