"""Data-parallel training: two real processes under torchrun do what one process does, and fail cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgekit.errors import EdgekitError
from edgekit.train.checkpoint import checkpoint_steps
from edgekit.train.parallel import check_shares, join

TINY = ["steps=4", "prompts_per_step=6", "group_size=3", "train_pool=24", "checkpoint_every=2", "eval_every=4"]
TINY += ["eval_n=4", "rows_per_forward=8"]

GRADIENTS = """
import os, sys
from pathlib import Path
from safetensors.torch import save_file
from edgekit.policy.checkpoint import load_policy
from edgekit.rollout.sampler import sample_groups
from edgekit.tasks import get_task
from edgekit.warm_start.bases import builtin_base
from edgekit.train.batches import samples_of
from edgekit.train.config import load_config
from edgekit.train.parallel import join
from edgekit.train.update import PolicyUpdate

problems = get_task("countdown").problems("train", 4, 0)
with join(os.environ) as ranks:
    for who in sys.argv[2:]:
        policy = load_policy(builtin_base())
        prompts = [policy.encode(problem.prompt) for problem in problems]
        share = ranks.share(prompts)
        first = ranks.rank * len(share)
        groups = ranks.gather(sample_groups(policy, share, 3, temperature=1.0, seed=5, first=first))
        # Two of the three groups that teach are the first process's, and its responses are not the longest.
        advantages = [(0.5, -0.5, 0.0), (0.0, 0.0, 0.0), (-0.25, 0.0, 0.25), (1.0, -0.75, -0.25)]
        teaching = [0, 2, 3]
        samples = [
            sample
            for i in teaching[ranks.rank :: ranks.world]
            for sample in samples_of(i, groups[i], advantages[i])
        ]
        if who == "nobody" or (who == "first" and not ranks.is_first):
            samples = []
        update = PolicyUpdate(policy.model, load_config("quick", ["grad_clip=null"]), ranks)
        report = update.apply(samples, 4, 1e-4)
        if ranks.is_first:
            tokens = [token for group in groups for response in group.responses for token in response.token_ids]
            grads = {n: p.grad for n, p in policy.model.named_parameters() if p.grad is not None}
            facts = {"tokens": str(tokens), "loss": str(report.loss), "norm": str(report.grad_norm)}
            save_file(grads, Path(sys.argv[1]) / who, metadata=facts)
"""

DYING = """
import os, signal, sys
from pathlib import Path
from edgekit.cloud.oracle import OracleCloud
from edgekit.tasks import get_task
from edgekit.train import loop
from edgekit.train.batches import samples_of
from edgekit.train.config import load_config
from edgekit.train.parallel import join

with join(os.environ) as ranks:
    if ranks.rank == 1:
        whole = loop._Run.step
        def step(run, number):
            if number == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(run, number)
        loop._Run.step = step
    cloud = OracleCloud(get_task("countdown"))
    loop.train(load_config("quick", sys.argv[2:]), Path(sys.argv[1]), cloud=cloud, ranks=ranks)
"""


def launch(*command: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run a Python command as so many processes of one run, one thread each."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launched = command if processes == 1 or command[0] != "-c" else _as_script(command)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run([*start, *launched], capture_output=True, text=True, env=environment, timeout=600)


def _as_script(command: tuple[str, ...]) -> tuple[str, ...]:
    script = Path(command[2]).with_suffix(".py")  # torchrun starts files, not -c
    script.write_text(command[1])
    return (str(script), *command[2:])


def settings(*overrides: str) -> list[str]:
    return [part for override in (*TINY, *overrides) for part in ("--set", override)]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def gradients(folder: Path, *who: str, processes: int) -> list[tuple[dict[str, torch.Tensor], dict[str, str]]]:
    """The gradients of an update in which all, only the first or nobody has something to teach, and their facts."""
    folder.mkdir()
    result = launch("-c", GRADIENTS, str(folder), *who, processes=processes)
    assert result.returncode == 0, result.stderr[-2000:]
    made = []
    for out in (folder / each for each in who):
        header_size = int.from_bytes(out.read_bytes()[:8], "little")
        made.append((load_file(out), json.loads(out.read_bytes()[8 : 8 + header_size])["__metadata__"]))
    return made


@pytest.mark.slow
def test_two_processes_sample_the_same_and_their_gradients_add_up_to_one_processs(tmp_path: Path) -> None:
    """A process with nothing to teach takes part all the same; where none has anything, nothing moves."""
    ((one, facts),) = gradients(tmp_path / "one", "all", processes=1)
    (two, same), (half, of_half), (nothing, of_nothing) = gradients(
        tmp_path / "two", "all", "first", "nobody", processes=2
    )
    assert same["tokens"] == facts["tokens"]
    assert float(same["loss"]) == pytest.approx(float(facts["loss"]), rel=1e-5)
    assert float(same["norm"]) == pytest.approx(float(facts["norm"]), rel=1e-5)
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-5 * gradient.abs().max().item())

    assert half
    assert float(of_half["norm"]) > 0
    assert not nothing
    assert float(of_nothing["norm"]) == 0.0


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    return trained(tmp_path_factory.mktemp("run") / "two", 2)


def trained(run: Path, processes: int) -> Path:
    result = launch("-m", "edgekit", "train", "quick", "--out", str(run), *settings(), processes=processes)
    assert result.returncode == 0, result.stderr[-2000:]
    return run


@pytest.mark.slow
def test_a_run_of_two_processes_is_the_run_of_one(two: Path, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", 1)
    for single, double in zip(lines(one / "metrics.jsonl"), lines(two / "metrics.jsonl"), strict=True):
        # The gaps between sampled and recomputed log-probabilities are of the size of rounding errors themselves.
        assert double == pytest.approx(single, rel=1e-4, abs=1e-5)
        assert double["mean_tokens"] == single["mean_tokens"]
    weights = [load_file(run / "policy" / "model.safetensors") for run in (one, two)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-3, atol=1e-4)
    asked = Counter(answer["id"] for answer in lines(two / "cloud_answers.jsonl"))
    assert set(asked.values()) == {1}
    assert asked.keys() == {answer["id"] for answer in lines(one / "cloud_answers.jsonl")}
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}


@pytest.mark.slow
def test_when_one_process_dies_the_run_ends_and_goes_on_later(two: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    result = launch("-c", DYING, str(killed), *TINY)
    assert result.returncode != 0
    assert signal.Signals.SIGKILL.name in result.stderr
    assert not (killed / "policy").exists()
    assert checkpoint_steps(killed / "checkpoints") == [2]
    result = launch("-m", "edgekit", "train", "--resume", "--out", str(killed))
    assert result.returncode == 0, result.stderr[-2000:]
    for name in ("metrics.jsonl", "cloud_answers.jsonl", "policy/model.safetensors"):
        assert (killed / name).read_bytes() == (two / name).read_bytes(), name


@pytest.mark.slow
def test_a_failure_is_told_once_and_every_process_ends_with_its_code(tmp_path: Path) -> None:
    result = launch("-m", "edgekit", "train", "quick", "--out", str(tmp_path / "run"), "--set", "prompts_per_step=15")
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [
        "error: cannot share a step: prompts_per_step 15 among 2 processes. Each takes as many. Choose a multiple of 2."
    ]
    assert "exitcode  : 2" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_step_is_shared_evenly_or_not_at_all() -> None:
    check_shares(32, 8)
    with pytest.raises(EdgekitError, match="prompts_per_step 15 among 2 processes"):
        check_shares(15, 2)


def test_without_a_launcher_there_is_one_process() -> None:
    single = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for environment in ({}, {"WORLD_SIZE": "4"}, single):
        with join(environment) as ranks:
            assert (ranks.rank, ranks.world, ranks.share([1, 2, 3])) == (0, 1, [1, 2, 3])
