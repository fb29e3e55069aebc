"""What training needs, tried before a warm start of minutes: the device, the disk, what runs and reads, the cloud."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from itertools import islice
from pathlib import Path

from edgekit.cloud.answers import KeptCloud
from edgekit.cloud.client import Cloud
from edgekit.errors import BundleError, EdgekitError
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.device import open_device
from edgekit.policy.hub import is_hub_name
from edgekit.policy.weights import find_weights
from edgekit.rollout.server import KEY_VARIABLE, RolloutServer, server_address
from edgekit.tasks import get_task
from edgekit.train.checkpoint import KEEP
from edgekit.train.config import TrainConfig
from edgekit.train.readable import check_readable
from edgekit.warm_start.bases import PACKAGED, builtin_base, is_pretrained

COPIES = 3 * (KEEP + 1) + 1
"""Of the weights, that a run leaves on the disk: checkpoints with two moments each, one more while it is written, and
the policy. On a grid one more, the floats behind it."""
LOOKED_AT = 200


def try_first(config: TrainConfig, run_dir: Path, cloud: Cloud) -> None:
    """Raises :class:`EdgekitError` for the first thing that ``config`` needs and this host, or the cloud, lacks.

    A cloud behind a server is asked a training problem, one that it has not answered yet.
    """
    open_device(config.device)
    task = get_task(config.task)
    problems = task.problems("train", min(LOOKED_AT, config.train_pool), config.seed)
    if config.eval_n:
        task.problems("validation", 1, config.seed)
    folder = _base_folder(config.base)
    if folder is not None:
        if not is_pretrained(config.base):
            check_readable(load_policy(folder), task, problems)
        with suppress(BundleError):  # what is wrong with it is told where it is read
            _check_disk(run_dir, folder, COPIES + (config.quantize is not None))
    address = server_address(config.rollouts)
    if address is not None:
        RolloutServer(*address, os.environ.get(KEY_VARIABLE, "")).check()
    if isinstance(cloud, KeptCloud):
        unasked = (problem for problem in problems if not cloud.store.known([cloud.request_of(problem)]))
        for problem in islice(unasked, 1):
            cloud.answer(problem)


def _base_folder(base: str) -> Path | None:
    """Where the base's weights lie already; None where they have yet to be fetched."""
    if base == "builtin":
        return builtin_base()
    return None if base in PACKAGED or is_hub_name(base) else Path(base)


def _check_disk(run_dir: Path, base: Path, copies: int) -> None:
    """Raises :class:`EdgekitError` if there is no room for ``copies`` of a policy as large as ``base``."""
    weights = sum(path.stat().st_size for path in find_weights(base).shards)
    needed = copies * weights
    place = next(folder for folder in (run_dir.absolute(), *run_dir.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise EdgekitError(
            f"no room: {run_dir}. Checkpoints and policy take about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
            "free. Give another --out."
        )
