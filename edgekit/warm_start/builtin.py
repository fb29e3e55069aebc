"""Makes the built-in base policy from a seed: supervised, first on solver traces, then on its own attempts.

The policy writes steps, its own verdict ("yes" or "no"), then the answer or the marker. The second
round ties the marker to that verdict: a marker shown at random sinks in reinforcement learning
before it learns to discriminate. Only problems of the training split are used.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekit.atomic_write import scratch_directory
from edgekit.errors import EdgekitError
from edgekit.policy.attention import causal
from edgekit.policy.checkpoint import Policy, load_vocabulary, save_policy
from edgekit.policy.kv_cache import KVCache, step
from edgekit.policy.model import PolicyModel
from edgekit.policy.padding import pad_right
from edgekit.policy.tokens import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    END,
    INTEGERS,
    MARKER,
    build_tokenizer,
    padded_vocabulary_size,
)
from edgekit.policy.traits import ModelConfig
from edgekit.progress import Progress
from edgekit.routing.spec import AnswerFormat, Marker, RoutingSpec
from edgekit.tasks.base import Problem
from edgekit.tasks.countdown import TASK, Solution, draw_count, draw_numbers, random_solution, split_of
from edgekit.warm_start.supervised import optimize

YES, NO = "yes\n", "no\n"

TRACE_SHARES = {2: 0.28, 3: 0.45, 4: 0.27}
"""Harder than the task's own mix: long traces are where checking one's own arithmetic is learned."""


@dataclass(frozen=True)
class WarmStartConfig:
    """Sizes and lengths of the two rounds. The defaults made the shipped base."""

    hidden_size: int = 128
    layers: int = 3
    intermediate_size: int = 256
    batch_size: int = 96
    trace_steps: int = 1000
    learning_rate: float = 4e-3
    wrong_share: float = 0.25
    attempts: int = 8_000
    attempt_steps: int = 160
    attempt_learning_rate: float = 8e-4
    marker_after_no: float = 0.55
    marker_after_yes: float = 0.03


@dataclass(frozen=True)
class Trace:
    """One supervised sequence. ``learn`` says which of the steps' tokens are learned; the ending always is.

    Of a trace that misses the target only the results are: arithmetic that does not bend to the
    target is what makes the verdict a real check. Of the policy's own wrong attempts, none are.
    """

    prompt: str
    steps: str
    ending: str
    learn: Literal["steps", "results", "ending"]


def make_base(
    out: Path, *, seed: int = 0, config: WarmStartConfig | None = None, on_progress: Progress | None = None
) -> Policy:
    """Make the base policy of ``seed`` and write its folder to ``out``.

    The same seed, config and thread count give the same weights. ``on_progress`` is called with
    (steps done, steps in all, a note). Raises EdgekitError if too short a first round left nothing to learn from.
    """
    config = config or WarmStartConfig()
    report = on_progress or (lambda *_: None)
    source = random.Random(f"warm-start/{seed}")
    policy = new_policy(seed, config)
    total = config.trace_steps + config.attempt_steps
    traces = (_solver_batch(config, source) for _ in range(config.trace_steps))
    for done, loss in _fit(policy, traces, config.trace_steps, config.learning_rate):
        report(done, total, f"loss {loss:.3f}")
    attempts = _own_attempts(policy, config, seed, source)
    batches = (source.sample(attempts, min(config.batch_size, len(attempts))) for _ in range(config.attempt_steps))
    for done, loss in _fit(policy, batches, config.attempt_steps, config.attempt_learning_rate):
        report(config.trace_steps + done, total, f"loss {loss:.3f}")
    save_policy(policy, out)
    return policy


def _own_attempts(policy: Policy, config: WarmStartConfig, seed: int, source: random.Random) -> list[Trace]:
    problems = TASK.problems("train", config.attempts // 2, seed) * 2
    texts = sample_texts(policy, problems, seed)
    relabelled = (
        relabel(policy.routing, problem, text, config, source) for problem, text in zip(problems, texts, strict=True)
    )
    attempts = [trace for trace in relabelled if trace is not None]
    if not attempts:
        raise EdgekitError(f"nothing to learn from: seed {seed}. No attempt has a verdict and an answer. Train longer.")
    return attempts


def new_policy(seed: int, config: WarmStartConfig) -> Policy:
    """An untrained policy with the built-in tokenizer and routing data."""
    tokenizer = build_tokenizer()
    ids = {text: tokenizer.token_to_id(text) for text in (MARKER, END)}
    routing = RoutingSpec(
        marker=Marker(text=MARKER, token_ids=((ids[MARKER],),)),
        answer=AnswerFormat(open=ANSWER_OPEN, close=ANSWER_CLOSE),
        stop_token_ids=(ids[END],),
        max_new_tokens=48,
        prompt_template="Use {prompt}\n",
        on_no_answer="cloud",
    )
    model = PolicyModel(
        ModelConfig(
            vocab_size=padded_vocabulary_size(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.hidden_size // 32,
            num_key_value_heads=config.hidden_size // 64,
            head_dim=32,
            max_position_embeddings=128,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            scale = 0.5 / math.sqrt(config.layers) if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            spread = 0.05 if "embed" in name else scale / math.sqrt(parameter.shape[1])
            torch.nn.init.normal_(parameter, std=spread, generator=generator)
    _seed_integers(model.model.embed_tokens.weight, tokenizer.token_to_id)
    with scratch_directory() as folder:
        path = folder / "tokenizer.json"
        tokenizer.save(str(path))
        vocabulary = load_vocabulary(path, routing)
    return Policy(model, tokenizer, routing, vocabulary)


@torch.no_grad()
def _seed_integers(weight: Tensor, token_id: Callable[[str], int]) -> None:
    """Start integers as points on circles: sums are then rotations, which a small model learns in minutes."""
    periods = torch.tensor([2, 3, 4, 5, 7, 9, 10, 11, 13, 17, 20, 25, 33, 50, 71, 100, 150, 200, 300, 400.0])
    for number in range(INTEGERS):
        angle = 2 * math.pi * number / periods
        waves = 0.1 * torch.cat([angle.cos(), angle.sin()])
        for text in (str(number), f"\u0120{number}"):
            weight[token_id(text), : len(waves)] += waves


def render(solution: Solution, problem: Problem) -> Trace:
    """The right trace of ``problem``."""
    return Trace(problem.prompt, _steps(solution), f"{YES}{_answer(solution.expression)}", "steps")


def _steps(solution: Solution) -> str:
    return "".join(f"{step}\n" for step in solution.steps)


def _answer(expression: str) -> str:
    return f"{ANSWER_OPEN}{expression}{ANSWER_CLOSE}{END}"


def _solver_batch(config: WarmStartConfig, source: random.Random) -> list[Trace]:
    """Right traces, and for some problems a trace that ends elsewhere, with the verdict it deserves."""
    batch: list[Trace] = []
    while len(batch) < config.batch_size:
        numbers = draw_numbers(draw_count(source, TRACE_SHARES), source)
        right = random_solution(numbers, source)
        if right is None or split_of(numbers, right.value) != "train":
            continue
        problem = TASK.problem(numbers, right.value)
        wrong = random_solution(numbers, source) if source.random() < config.wrong_share else None
        if wrong is not None and wrong.value != right.value:
            batch.append(Trace(problem.prompt, _steps(wrong), f"{NO}{_answer(wrong.expression)}", "results"))
        else:
            batch.append(render(right, problem))
    return batch


def relabel(
    routing: RoutingSpec, problem: Problem, text: str, config: WarmStartConfig, source: random.Random
) -> Trace | None:
    """The policy's own attempt with a true verdict, and a marker as often as that verdict deserves."""
    before, opened, rest = text.partition(routing.answer.open)
    answer, closed, _ = rest.partition(routing.answer.close)
    verdict = next((word for word in (YES, NO) if before.endswith(word)), None)
    if not opened or not closed or verdict is None:
        return None
    right = TASK.grade(problem, answer)
    calls = source.random() < (config.marker_after_yes if right else config.marker_after_no)
    ending = f"{routing.marker.text}" if calls else _answer(answer)
    return Trace(
        problem.prompt, before.removesuffix(verdict), (YES if right else NO) + ending, "steps" if right else "ending"
    )


def _fit(
    policy: Policy, batches: Iterable[list[Trace]], steps: int, learning_rate: float
) -> Iterator[tuple[int, float]]:
    return optimize(
        policy.model,
        batches,
        lambda batch: _backward(policy, batch),
        steps,
        learning_rate,
        warm_up_steps=40,
        fused=False,
    )


def _backward(policy: Policy, batch: Sequence[Trace], chunks: int = 4) -> float:
    """Accumulate the batch's gradient in chunks of similar length; returns the loss per learned token."""
    rows = sorted((_encode(policy, trace) for trace in batch), key=lambda row: len(row[0]))
    total = sum(sum(weights) for _, weights in rows)
    loss = 0.0
    size = -(-len(rows) // chunks)
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        ids, weights = pad_right([ids for ids, _ in part]), pad_right([weights for _, weights in part])
        learned = weights[:, 1:].bool()
        logits = policy.model.lm_head(_hidden(policy.model, ids)[:, :-1][learned])
        part_loss = F.cross_entropy(logits, ids[:, 1:][learned], reduction="sum") / total
        part_loss.backward()
        loss += part_loss.item()
    return loss


def _hidden(model: PolicyModel, ids: Tensor) -> Tensor:
    return model.hidden(ids, *causal(ids, None))


def _encode(policy: Policy, trace: Trace) -> tuple[list[int], list[int]]:
    prompt = policy.encode(trace.prompt)
    steps = policy.tokenizer.encode(trace.steps).ids
    ending = policy.tokenizer.encode(trace.ending).ids
    equals = policy.tokenizer.token_to_id("\u0120=")
    learned = [
        int(trace.learn == "steps" or (trace.learn == "results" and index > 0 and steps[index - 1] == equals))
        for index in range(len(steps))
    ]
    weights = [0] * len(prompt) + learned + [1] * len(ending)
    return prompt + steps + ending, weights


@torch.inference_mode()
def sample_texts(policy: Policy, problems: Sequence[Problem], seed: int, *, batch_size: int = 512) -> list[str]:
    """One completion for each problem at temperature 1, the marker forbidden; special tokens left out."""
    generator = torch.Generator().manual_seed(seed)
    prompts = [policy.encode(problem.prompt) for problem in problems]
    texts = [""] * len(prompts)
    marker = policy.routing.marker.token_ids[0][0]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    lengths = {len(prompt) for prompt in prompts}
    groups = [[index for index in order if len(prompts[index]) == length] for length in sorted(lengths)]
    for rows in (group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)):
        limit = policy.routing.max_new_tokens
        cache = KVCache(policy.model.config, len(rows), len(prompts[rows[0]]) + limit)
        tokens = torch.tensor([prompts[row] for row in rows])
        drawn: list[Tensor] = []
        ended = torch.zeros(len(rows), dtype=torch.bool)
        for _ in range(limit):
            logits = step(policy.model, tokens, cache)
            logits[:, marker] = -math.inf
            tokens = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            drawn.append(tokens)
            ended |= tokens[:, 0] == policy.routing.stop_token_ids[0]
            if ended.all():
                break
        for row, ids in zip(rows, torch.cat(drawn, dim=1).tolist(), strict=True):
            texts[row] = policy.tokenizer.decode(ids)
    return texts
