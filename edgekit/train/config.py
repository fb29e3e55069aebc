"""A training configuration: one YAML file or preset, checked whole, unknown keys refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgekit.errors import ConfigError
from edgekit.rollout.server import server_address
from edgekit.tasks import TASKS
from edgekit.train.bases import NAMED_BASES
from edgekit.train.reward import reward_problems

PRESETS = Path(__file__).parent / "presets"
Estimator = Literal["unbiased", "dr_grpo", "grpo"]


class TrainConfig(BaseModel):
    """Everything a run needs besides the cloud itself. Paper values where the paper gives them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    task: str = "countdown"
    base: str = "builtin"
    """"builtin", "smollm2", a policy folder, or a Hugging Face model folder, which is warm-started first."""
    algorithm: Literal["gapg", "da_grpo", "collaboration_dr_grpo", "collaboration_grpo", "task_only"] = "gapg"
    cloud: str = "oracle"
    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=100, ge=1)
    prompts_per_step: int = Field(default=32, ge=1)
    group_size: int = Field(default=8, ge=2)
    train_pool: int = Field(default=5000, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["constant", "linear"] = "constant"
    """After the warm-up: constant, or falling linearly to almost nothing in the last step."""
    grad_clip: float | None = Field(default=1.0, gt=0)
    rollouts: str = "local"
    """"local": sampled here; "vllm:MODEL@URL": by a vLLM server that takes this run's weights each step."""
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int | None = Field(default=None, ge=1)
    """None: as many as the policy's routing.json allows."""
    call_fraction: float = Field(default=0.30, ge=0, lt=1)
    alpha_a: float = 1.0
    alpha_c: float = 0.25
    alpha_f: float = 0.0
    alpha_e: float = 0.0
    """Rewards early asking: a good hand-off pays up to this much more the less of the token budget is spent."""
    estimator: Estimator = "unbiased"
    """An ablation of gapg and da_grpo: Dr.GRPO's or GRPO's advantages instead."""
    prompt_filter: bool = True
    """An ablation of gapg: False keeps every prompt."""
    first_call_price: float = Field(default=0.5, ge=0)
    """DA-GRPO's lambda before the first step."""
    call_price_rate: float = Field(default=0.01, ge=0)
    """DA-GRPO's eta: how fast lambda follows the call rate's distance from ``call_fraction``."""
    bfloat16: bool = False
    """Whether the update multiplies in bfloat16: faster where the processor can; weights stay float32."""
    rows_per_forward: int = Field(default=128, ge=1)
    checkpoint_every: int = Field(default=10, ge=1)
    eval_every: int = Field(default=25, ge=1)
    eval_n: int = Field(default=200, ge=0)

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        faults = []
        if self.task not in TASKS:
            faults.append(f"task: unknown {self.task!r}, edgekit has {', '.join(TASKS)}")
        faults += reward_problems(self.alpha_a, self.alpha_c, self.alpha_f, self.alpha_e)
        if self.alpha_e and self.algorithm in ("da_grpo", "task_only"):
            faults.append(f"alpha_e: {self.algorithm} has no reward for a hand-off to add it to")
        if self.estimator != "unbiased" and self.algorithm not in ("gapg", "da_grpo"):
            faults.append(f"estimator: {self.algorithm} has its own")
        if not self.prompt_filter and self.algorithm != "gapg":
            faults.append(f"prompt_filter: {self.algorithm} has none to switch off")
        try:
            server_address(self.rollouts)
        except ValueError as error:
            faults.append(f"rollouts: {error}")
        if self.train_pool < self.prompts_per_step:
            faults.append(f"train_pool: {self.train_pool} is less than prompts_per_step {self.prompts_per_step}")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def to_yaml(self) -> str:
        """The configuration as a YAML document that :func:`load_config` reads back."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False)


def preset_names() -> list[str]:
    """The built-in presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_config(name_or_path: str = "default", overrides: list[str] | None = None) -> TrainConfig:
    """A preset or a YAML file, with ``key=value`` overrides. Raises :class:`ConfigError` listing every problem."""
    path = Path(name_or_path)
    if not (path.suffix in (".yaml", ".yml") or path.is_file()):
        if name_or_path not in preset_names():
            raise ConfigError(f"unknown preset {name_or_path}", [f"edgekit has {', '.join(preset_names())}"])
        path = PRESETS / f"{name_or_path}.yaml"
    data = _read_yaml(path)
    problems = []
    for override in overrides or []:
        key, equals, value = override.partition("=")
        try:
            if not equals:
                raise ValueError("not key=value")
            data[key.strip()] = yaml.safe_load(value)
        except (ValueError, yaml.YAMLError) as error:
            problems.append(f"--set {override}: {' '.join(str(error).split())}")
    try:
        config = TrainConfig.model_validate(data)
    except ValidationError as error:
        problems += [f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"training config {name_or_path}", problems) from None
    if problems:
        raise ConfigError(f"training config {name_or_path}", problems)
    if config.base not in NAMED_BASES:
        # A run is resumed from anywhere, so its base must not depend on the working directory.
        config = config.model_copy(update={"base": str(Path(config.base).resolve())})
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    source = f"training config {path}"
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(source, [f"cannot be read ({error.strerror})"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(source, ["not YAML: " + " ".join(str(error).split())]) from None
    if not isinstance(data, dict):
        raise ConfigError(source, ["not a mapping of keys to values"])
    return data
