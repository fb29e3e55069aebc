"""A training configuration: one YAML file or preset, checked whole, unknown keys refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from edgekit.errors import ConfigError, EdgekitError
from edgekit.faults import faults_of
from edgekit.policy.device import DeviceName
from edgekit.recipes.lookup import named_recipes
from edgekit.rollout.server import server_address
from edgekit.settings import Settings
from edgekit.tasks import from_copy, resolve_task
from edgekit.train.advantage import Estimator
from edgekit.train.idle import idle_settings
from edgekit.train.on_grid import quantize_problems
from edgekit.train.reward import reward_problems
from edgekit.warm_start.bases import absolute_base, is_language_model, is_pretrained
from edgekit.warm_start.kinds import WarmStart, start_problems
from edgekit.yaml_document import parse_yaml, read_yaml

PRESETS = Path(__file__).parent / "presets"
LONGEST_SHOWN = 80
"""Characters of a wrong setting that are repeated."""
KEPT_TASK = "task"
"""The folder in a run that keeps a copy of its JSONL task, so that the run is whole on another machine."""


FOR_LANGUAGE_MODELS: dict[str, Any] = {
    "learning_rate": 2e-5,
    "warmup_steps": 5,
    "schedule": "linear",
    "grad_clip": 100.0,
    "steps": 150,
    "prompts_per_step": 24,
}
"""Settings of a run whose base is a language model, where nobody says otherwise: the other defaults are the built-in
policy's. A hundred million parameters and more forget what they know at its learning rate."""
LENGTHS = frozenset({"steps", "prompts_per_step"})


class TrainConfig(Settings):
    """Everything a run needs besides the cloud itself. Paper values where the paper gives them."""

    task: str = "countdown"
    """What the policy learns: a built-in task, FILE.py, FILE.jsonl[#RULE] or hub:DATASET."""
    base: str = "builtin"
    """"builtin", a policy folder, or a pretrained model, which is warm-started first: "smollm2", "gemma3-270m" (under
    the Gemma Terms of Use), a Hugging Face folder, or a name on the hub as Qwen/Qwen2.5-1.5B-Instruct, with
    @REVISION if need be."""
    warm_start: WarmStart = "answers"
    """How: with the task's own right "answers" and no reasoning, with the model's own right "attempts", or with a
    teacher's "traces" of several attempts at a problem, then the answer or the marker (countdown only)."""
    warm_start_settings: dict[str, Any] = Field(default_factory=dict)
    """Lengths, rates and shares of the warm start other than its own defaults."""
    instruction: str | None = None
    """A pretrained base's system prompt. None: edgekit's, which explains the format; empty: none."""
    algorithm: Literal["gapg", "da_grpo", "collaboration_dr_grpo", "collaboration_grpo", "task_only"] = "gapg"
    """How responses become an update: GAPG, or one of its rivals."""
    cloud: str = "oracle"
    """Who answers hand-offs while training: oracle[:accuracy] or openai:MODEL@BASE_URL."""
    seed: int = Field(default=0, ge=0)
    """Every random choice follows from it."""
    steps: int = Field(default=100, ge=1)
    """Updates of the policy."""
    prompts_per_step: int = Field(default=32, ge=1)
    """Problems that a step samples responses to."""
    group_size: int = Field(default=8, ge=2)
    """Responses sampled to each of them."""
    train_pool: int = Field(default=5000, ge=1)
    """Distinct training problems that the steps draw from."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Adam's, at its highest."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which the learning rate rises to that."""
    schedule: Literal["constant", "linear"] = "constant"
    """After the warm-up: constant, or falling linearly to almost nothing in the last step."""
    grad_clip: float | None = Field(default=10.0, gt=0)
    """The largest norm of a step's gradient; a longer one is shortened. A guard: the built-in policy's norms are 1 to
    6. None: no limit."""
    rollouts: str = "local"
    """"local": sampled here; "vllm:MODEL@URL": by a vLLM server that takes this run's weights each step."""
    temperature: float = Field(default=1.0, ge=0.01, le=100)
    """Of sampling."""
    importance_cap: float | None = Field(default=None, ge=1)
    """Weigh each response by min(cap, its probability in the update over that in the rollout). None: do not."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Training problems whose prompt is longer are left out of the pool. None: none is."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """The most tokens of a response, in training and in the policy that comes out; None: the base's own limit."""
    call_fraction: float = Field(default=0.30, ge=0, lt=1)
    """The share c of prompts that shall go to the cloud; the filter keeps c / (1 - c) prompts of D2 for each of D1."""
    alpha_a: float = 1.0
    """The reward of a right local answer."""
    alpha_c: float = 0.25
    """The reward of a call that the cloud answers rightly."""
    alpha_f: float = 0.0
    """The reward of good form, besides a local answer's own."""
    alpha_e: float = 0.0
    """Rewards early asking: a good hand-off pays up to this much more the less of the token budget is spent."""
    early_marker_share: float = Field(default=0.0, ge=0, le=1)
    """Before the first step, the share of the base's own failing attempts in which it learns the marker earlier.

    0: none. Needed for early asking by a base that only ever calls at the end of its attempt, as the built-in one.
    """
    early_marker_steps: int = Field(default=40, ge=1)
    """Batches of that supervised round."""
    early_marker_learning_rate: float = Field(default=8e-4, gt=0)
    """Its learning rate."""
    estimator: Estimator = "unbiased"
    """An ablation of gapg and da_grpo: Dr.GRPO's or GRPO's advantages instead."""
    prompt_filter: bool = True
    """An ablation of gapg: False keeps every prompt."""
    weigh_kept: bool = False
    """An ablation of gapg: weigh the prompts that the filter keeps of D2 by one over their chance of being kept."""
    first_call_price: float = Field(default=0.5, ge=0)
    """DA-GRPO's lambda before the first step."""
    call_price_rate: float = Field(default=0.01, ge=0)
    """DA-GRPO's eta: how fast lambda follows the call rate's distance from ``call_fraction``."""
    device: DeviceName = "auto"
    """auto: a CUDA GPU where torch has one. The warm start runs there too."""
    bfloat16: bool = False
    """Whether rollouts and update multiply in bfloat16: faster where the processor can; weights stay float32."""
    rows_per_rollout: int = Field(default=512, ge=1)
    """Responses sampled at a time: each holds keys and values."""
    rows_per_forward: int | None = Field(default=None, ge=1)
    """Responses per forward and backward pass of the update; their gradients are summed up to one step's. None:
    128, on a GPU 512, halved until they fit the free memory."""
    gradient_checkpointing: bool = False
    """Compute activations again instead of keeping them: less memory, more time, the same gradient."""
    quantize: str | None = None
    """An integer recipe, by name or YAML file, on whose grid everything runs: weights rounded, and activations as its
    target rounds them. The policy that comes out is the one that an export by this recipe ships. None: floats."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Train adapters of this rank instead of all weights. None: all weights."""
    lora_alpha: int = Field(default=32, ge=1)
    """Adapters count lora_alpha / lora_rank times."""
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """The linears of each block that get adapters."""
    checkpoint_every: int = Field(default=10, ge=1)
    """Steps between checkpoints, from which an interrupted run goes on."""
    eval_every: int = Field(default=25, ge=1)
    """Steps between evaluations on held-out problems."""
    eval_n: int = Field(default=200, ge=0)
    """Held-out problems of each evaluation. 0: none."""

    @field_validator("task")
    @classmethod
    def _resolve_task(cls, task: str) -> str:
        """A run is resumed from anywhere, so a task's file must not depend on the working directory."""
        with suppress(EdgekitError):  # _check tells of it, with whatever else is wrong
            return resolve_task(task)
        return task

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        faults = []
        try:
            resolve_task(self.task)
        except EdgekitError as error:
            faults.append(f"task: {str(error).rstrip('.')}")
        else:
            if is_pretrained(self.base):
                faults += start_problems(self.warm_start, self.warm_start_settings, self.task)
                if self.quantize is None and "on_grid" in self.warm_start_settings:
                    faults.append("warm_start_settings.on_grid: quantize is not set, so it would do nothing")
        faults += reward_problems(self.alpha_a, self.alpha_c, self.alpha_f, self.alpha_e)
        faults += [
            f"{key}: {reason}, so it would do nothing"
            for key, reason in idle_settings(dict(self)).items()
            if getattr(self, key) != default_of(key)
        ]
        try:
            server_address(self.rollouts)
        except ValueError as error:
            faults.append(f"rollouts: {error}")
        if self.importance_cap is not None and self.rollouts != "local" and self.temperature != 1.0:
            faults.append(f"importance_cap: a server tells no log-probabilities at temperature {self.temperature:g}")
        if self.train_pool < self.prompts_per_step:
            faults.append(f"train_pool: {self.train_pool} is less than prompts_per_step {self.prompts_per_step}")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def to_yaml(self) -> str:
        """The configuration as a YAML document that :func:`load_config` reads back."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False)

    def grid_problems(self) -> list[str]:
        """Why it cannot be trained on the grid that it asks for; empty if it can, or asks for none."""
        return quantize_problems(self.quantize, adapters=self.lora_rank is not None, served=self.rollouts != "local")


def default_of(key: str) -> Any:
    """What the setting ``key`` is if nobody says it."""
    return TrainConfig.model_fields[key].get_default(call_default_factory=True)


def without_idle(data: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """The unchecked settings ``data`` less those that do nothing, but for the keys that were ``given`` on purpose."""
    idle = _idle_in(data)
    return {key: value for key, value in data.items() if key not in idle or key in given}


def _idle_in(data: Mapping[str, Any]) -> dict[str, str]:
    """What does nothing in ``data``, where each setting by itself may be what it says."""
    try:
        TrainConfig.model_validate(data)
    except ValidationError as error:
        wrong = {fault["loc"][0] for fault in error.errors() if fault["loc"]}
        data = {key: value for key, value in data.items() if key not in wrong}
    return idle_settings(dict(TrainConfig.model_construct(**data)))


def preset_names() -> list[str]:
    """The built-in presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_config(name_or_path: str = "default", overrides: Mapping[str, Any] | Sequence[str] = ()) -> TrainConfig:
    """A preset or a YAML file, with overrides: a mapping, or texts ``key=value`` whose values are YAML.

    What of a preset would do nothing beside the overrides is left out. Raises :class:`ConfigError` listing every
    problem, settings that would do nothing among them.
    """
    path = Path(name_or_path)
    is_preset = not (path.suffix in (".yaml", ".yml") or path.is_file())
    if is_preset:
        if name_or_path not in preset_names():
            raise ConfigError(f"unknown preset {name_or_path}", [f"edgekit has {', '.join(preset_names())}"])
        path = PRESETS / f"{name_or_path}.yaml"
    data = read_mapping(path, "training config")
    given, problems = _read_overrides(overrides)
    data = for_base(data, given, name_or_path if is_preset else None)
    idle = _idle_in(data)
    if is_preset:
        data = without_idle(data, given)
    # Those that are not at their default are told of with everything else that is wrong.
    vain = [key for key in given if key in idle and given[key] == default_of(key)]
    problems += [f"{key}: {idle[key]}, so it would do nothing" for key in vain]
    config = _checked(data, f"training config {name_or_path}", problems)
    if faults := config.grid_problems():
        raise ConfigError(f"training config {name_or_path}", faults)
    return config


def for_base(data: dict[str, Any], given: Mapping[str, Any], preset: str | None) -> dict[str, Any]:
    """``data`` with the settings ``given`` on top, and with a language model's where neither speaks of one.

    ``data`` is a file's, or the ``preset``'s. A preset of another base means what it says. What one for the built-in
    policy says is not meant for others, but for the lengths, which are what all but the default one are for.
    """
    both = {**data, **given}
    base, is_whole = both.get("base"), preset is not None and data.get("base") != "builtin"
    if is_whole or not isinstance(base, str) or not is_language_model(base):
        return both
    said = set(both)
    if preset is not None:
        said = set(given) | (set() if preset == "default" else LENGTHS)
    return both | {key: value for key, value in FOR_LANGUAGE_MODELS.items() if key not in said}


def load_run_config(path: Path, overrides: Mapping[str, Any] | Sequence[str] = ()) -> TrainConfig:
    """A run's own config.yaml with overrides; what earlier versions wrote there and did not read is left out.

    A JSONL task whose file is gone is the run's own copy of it.
    """
    data = read_mapping(path, "training config")
    if isinstance(data.get("task"), str):
        data["task"] = from_copy(data["task"], path.parent / KEPT_TASK)
    given, problems = _read_overrides(overrides)
    data = without_idle(data) | given
    return _checked(data, f"training config {path}", problems)


def _read_overrides(overrides: Mapping[str, Any] | Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Settings by name, and what is wrong with those that are texts ``key=value``."""
    if isinstance(overrides, Mapping):
        return dict(overrides), []
    given, problems = {}, []
    for override in overrides:
        key, equals, value = override.partition("=")
        try:
            if not equals:
                raise ValueError("not key=value")
            given[key.strip()] = parse_yaml(value)
        except ValueError as error:
            problems.append(f"--set {override[:LONGEST_SHOWN]}: {' '.join(str(error).split())}")
    return given, problems


def _checked(data: dict[str, Any], source: str, problems: list[str]) -> TrainConfig:
    """The configuration that ``data`` says, unless it or something before has ``problems``."""
    try:
        config = TrainConfig.model_validate(data)
    except ValidationError as error:
        found = [str(fault) for fault in faults_of(error, TrainConfig)]
        raise ConfigError(source, [*problems, *found]) from None
    if problems:
        raise ConfigError(source, problems)
    # A run is resumed from anywhere, so its base and recipe must not depend on the working directory.
    recipe = config.quantize
    if recipe is not None and recipe not in named_recipes() and Path(recipe).is_file():
        recipe = str(Path(recipe).resolve())
    return config.model_copy(update={"base": absolute_base(config.base), "quantize": recipe})


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """The mapping a YAML file holds; ``what`` names its kind in the :class:`ConfigError` raised if it holds none."""
    source = f"{what} {path}"
    try:
        data = read_yaml(path)
    except OSError as error:
        raise ConfigError(source, [f"cannot be read ({error.strerror})"]) from None
    except ValueError as error:
        raise ConfigError(source, ["not YAML: " + " ".join(str(error).split())]) from None
    if not isinstance(data, dict):
        raise ConfigError(source, ["not a mapping of keys to values"])
    if strange := [str(key) for key in data if not isinstance(key, str)]:
        raise ConfigError(source, [f"{key}: a key is a text" for key in strange])
    return data
