"""Data-parallel training: what the processes of one run tell each other.

``torchrun`` (or ``accelerate launch``) starts the processes; torch.distributed connects them, by gloo for what
lies in main memory and by nccl for gradients on GPUs. Every process samples and grades its share of a step's
prompts, all learn every outcome, each takes its share of the gradient, and their sum is one process's gradient up
to the order of addition. The first process alone writes files, asks the cloud and evaluates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from edgekit.errors import EdgekitError, FailedElsewhere

T = TypeVar("T")
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# The others wait while the first warm-starts a model or evaluates.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run; the default is a run of one process."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of ``items``: as many as every other's, in order."""
        size = len(items) // self.world
        return items[self.rank * size : (self.rank + 1) * size]

    def gather(self, items: Sequence[T]) -> list[T]:
        """Every process's ``items``, in the order of the processes."""
        if self.world == 1:
            return list(items)
        parts: list[Any] = [None] * self.world
        with self._together():
            dist.all_gather_object(parts, list(items))
        return [item for part in parts for item in part]

    def from_first(self, work: Callable[[], T]) -> T:
        """What ``work`` returns in the first process, which alone does it.

        If it raises an :class:`EdgekitError`, so do all: the first that one, the others :class:`FailedElsewhere`.
        """
        if self.world == 1:
            return work()
        message: list[Any] = [None, None]
        failure: EdgekitError | None = None
        if self.is_first:
            try:
                message[0] = work()
            except EdgekitError as error:
                failure, message[1] = error, str(error)
        with self._together():
            dist.broadcast_object_list(message, src=0)
        if failure is not None:
            raise failure
        if message[1] is not None:
            raise FailedElsewhere(message[1])
        return message[0]

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, which all give equal shapes."""
        if self.world > 1:
            with self._together():
                for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                    work.wait()

    def add_gradients(self, parameters: Sequence[Tensor], loss: float) -> float:
        """Replace the gradients by their sums over the processes; returns the sum of ``loss``.

        Where no process has a gradient, none has one after.
        """
        if self.world == 1:
            return loss
        total = torch.tensor([loss, any(parameter.grad is not None for parameter in parameters)], dtype=torch.float64)
        self.add([total])
        if total[1] > 0:
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self.add([parameter.grad for parameter in parameters if parameter.grad is not None])
        return float(total[0])

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by the first process's."""
        if self.world > 1:
            with self._together():
                for tensor in tensors:
                    dist.broadcast(tensor.detach(), src=0)

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what gloo and nccl raise when a process of the run is gone
            raise EdgekitError(
                f"lost a process of the run: {' '.join(str(error).split())[:120]}. "
                f"Process {self.rank} of {self.world} cannot go on alone. See the other's message, then --resume."
            ) from None


ALONE = Ranks()
"""A run of one process."""


def is_first(environ: Mapping[str, str]) -> bool:
    """Whether a launcher made this process the one that writes and shows, or there is no launcher."""
    return environ.get("RANK", "0") == "0"


@contextmanager
def join(environ: Mapping[str, str]) -> Iterator[Ranks]:
    """The processes that a launcher started with this one, connected until the block ends.

    Without a launcher's variables in ``environ``, a run of one process. Raises :class:`EdgekitError` if the
    others cannot be reached or the machine has fewer GPUs than processes.
    """
    if not all(name in environ for name in LAUNCHER_VARIABLES) or environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    backend = "gloo"
    if torch.cuda.is_available():
        local, gpus = int(environ.get("LOCAL_RANK", environ["RANK"])), torch.cuda.device_count()
        if local >= gpus:
            raise EdgekitError(f"too few GPUs: {gpus}. Process {local + 1} of this machine has none. Start {gpus}.")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        where = f"{environ['MASTER_ADDR']}:{environ['MASTER_PORT']}"
        raise EdgekitError(f"cannot join the run: {where}. {reason}. Start all processes with torchrun.") from None
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def check_shares(prompts_per_step: int, world: int) -> None:
    """Raise :class:`EdgekitError` unless each of ``world`` processes gets as many of a step's prompts."""
    if prompts_per_step % world:
        raise EdgekitError(
            f"cannot share a step: prompts_per_step {prompts_per_step} among {world} processes. "
            f"Each takes as many. Choose a multiple of {world}."
        )
