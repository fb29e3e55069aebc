"""Estimates for devices that are not here: a roofline over counted bytes and operations, and sourced device facts.

    decode step  = max(bytes / bandwidth, operations / arithmetic rate) + layers * overhead
    first token  = the same over the whole prompt, in as many steps as the artifact takes prompts in

Bandwidth and arithmetic rate are a device's peak times the share that real runtimes were seen to reach (devices.toml).
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.simulate.workload import Workload

RATE_OF = {"int8": 1.0, "float16": 0.5, "float32": 0.25}
"""A SIMD pipe's operations a second against int8 dot products: 16, 8 and 4 multiply-adds in 128 bits."""
SMALLEST_MEASURED_MB = 1136
"""The smallest artifact that the shares in devices.toml were seen on: Llama 3.2 1B, 1,083 MiB."""


@dataclass(frozen=True)
class Device:
    """Facts about one device, and where they come from."""

    name: str
    chip: str
    year: int
    ram_gb: float
    bandwidth_gb_s: float
    """The memory's peak, 10^9 bytes a second."""
    int8_gops: float
    """Peak int8 dot-product operations of the cores a runtime would use, 10^9 a second."""
    derived: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Assumptions:
    """What is taken for granted about every device, and why."""

    bandwidth_share: float
    compute_share: float
    layer_overhead_us: float
    usable_ram_share: float
    runtime_mb: float
    why: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """An estimate, never a measurement: seconds, tokens a second, megabytes (10^6 bytes)."""

    time_to_first_token_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    decode_bound: str
    """What a decode step mostly waits for: memory, arithmetic or overhead."""
    memory_mb: float
    usable_mb: float
    fits: bool


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(resources.files("edgekit.simulate").joinpath("devices.toml").read_text(encoding="utf-8"))


def assumptions() -> Assumptions:
    """The table's assumptions."""
    data = dict(_table()["assumptions"])
    return Assumptions(**data | {"why": tuple(data["why"])})


def device_names() -> list[str]:
    """Every device in the table."""
    return list(_table()["devices"])


def get_device(name: str) -> Device:
    """The facts of ``name``. Raises :class:`EdgekitError` for a device that the table lacks."""
    devices = _table()["devices"]
    if name not in devices:
        raise EdgekitError(f"unknown device: {name}. The table has {', '.join(devices)}. Choose one, or 'host'.")
    data = dict(devices[name])
    return Device(name=name, **data | {"sources": tuple(data["sources"])})


def caveat(work: Workload) -> str | None:
    """What to say of every estimate for an artifact far smaller than any that phones were measured with, else None."""
    megabytes = work.artifact_bytes / 1e6
    if megabytes >= SMALLEST_MEASURED_MB / 10:
        return None
    return (
        f"{megabytes:,.1f} MB is far below the smallest artifact that phones were measured with "
        f"({SMALLEST_MEASURED_MB:,} MB). Caches, threads and the app itself decide there, not memory and arithmetic: "
        "take speeds for upper bounds, and measure on a phone"
    )


def estimate(
    work: Workload, device: Device, prompt_tokens: int = 128, generated: int = 64, assume: Assumptions | None = None
) -> Estimate:
    """What ``work`` would do on ``device``: a prompt of ``prompt_tokens``, then ``generated`` decode steps.

    Raises :class:`EdgekitError` if prompt and answer do not fit the artifact's context.
    """
    if not 0 < prompt_tokens < work.context_length:
        raise EdgekitError(
            f"prompt does not fit: {prompt_tokens} tokens. The artifact's context holds {work.context_length}. "
            "Choose fewer."
        )
    assume = assume or assumptions()
    bandwidth = device.bandwidth_gb_s * 1e9 * assume.bandwidth_share
    rate = device.int8_gops * 1e9 * assume.compute_share * RATE_OF[work.arithmetic]
    overhead = work.layers * assume.layer_overhead_us * 1e-6

    steps = math.ceil(prompt_tokens / work.chunk)
    looked_at = prompt_tokens / 2  # positions that a prompt's token looks back on, on average
    operations = prompt_tokens * (work.layer_operations + looked_at * work.attention_operations)
    operations += steps * work.head_operations
    read = steps * work.weight_bytes + prompt_tokens * work.cache_bytes
    first = max(read / bandwidth, operations / rate) + steps * overhead

    position = min(prompt_tokens + generated / 2, work.context_length)
    parts = {
        "memory": (work.weight_bytes + position * work.cache_bytes) / bandwidth,
        "arithmetic": (work.layer_operations + work.head_operations + position * work.attention_operations) / rate,
        "overhead": overhead,
    }
    step = max(parts["memory"], parts["arithmetic"]) + overhead
    memory = work.artifact_bytes + work.context_length * work.cache_bytes + assume.runtime_mb * 1e6
    memory += work.weight_bytes if work.repacked else 0
    usable = device.ram_gb * 1e9 * assume.usable_ram_share
    return Estimate(
        time_to_first_token_s=first,
        prefill_tokens_per_s=prompt_tokens / first,
        decode_tokens_per_s=1 / step,
        decode_bound=max(parts, key=lambda part: parts[part]),
        memory_mb=memory / 1e6,
        usable_mb=usable / 1e6,
        fits=memory <= usable,
    )
