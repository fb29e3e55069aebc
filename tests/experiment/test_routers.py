"""Routers learn what their input shows and nothing else; their readings of the policy are exact."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from edgekit.errors import EdgekitError
from edgekit.experiment.attempts import Attempts, attempt, with_samples
from edgekit.experiment.routers import ROUTERS, find_router
from edgekit.experiment.routers.fitting import FitSettings
from edgekit.experiment.routers.forward import batches, last_token_states, sequences
from edgekit.experiment.routers.hidden_probe import logistic_regression
from edgekit.experiment.routers.own_verdict import SILENT
from edgekit.experiment.routers.pretrained import pretrained_router
from edgekit.experiment.routers.sample_agreement import SAMPLES
from edgekit.experiment.routers.token_entropy import POSITIONS_AT_ONCE
from edgekit.policy.checkpoint import Policy, load_policy, state_tensors
from edgekit.policy.tokens import build_tokenizer
from edgekit.routing.decoder import Decision
from edgekit.tasks.base import Problem
from edgekit.tasks.countdown import TASK

FITTED = ("prompt_router", "answer_router", "hidden_probe", "hidden_probe_prompt")
READS_THE_ANSWER = ("answer_router", "hidden_probe")
QUICK = FitSettings(epochs=8, learning_rate=5e-3, batch_size=32, patience=8)
"""For an encoder so small and so random."""


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(Path(str(files("edgekit.policy") / "base")))


def auroc(scores: list[float], labels: list[bool]) -> float:
    """The share of (wrong, right) pairs ordered rightly, ties counted half."""
    high = torch.tensor([score for score, label in zip(scores, labels, strict=True) if label])
    low = torch.tensor([score for score, label in zip(scores, labels, strict=True) if not label])
    difference = high[:, None] - low[None, :]
    return ((difference > 0).double() + (difference == 0).double() / 2).mean().item()


def made_up(policy: Policy, n: int, seed: int, is_wrong: Callable[[int, bool], bool]) -> Attempts:
    """Attempts that are wrong by a rule of the prompt's target and of the verdict in the response."""
    source = random.Random(seed)
    problems, decisions, correct, samples = [], [], [], []
    for index in range(n):
        target, verdict = source.randint(1, 99), source.random() < 0.5
        problems.append(Problem(str(index), f"{source.randint(1, 20)} {source.randint(1, 20)} -> {target}", "2"))
        text = f"3 + {source.randint(1, 20)} = 8\n{'yes' if verdict else 'no'}\n<answer>3</answer>"
        ids = policy.tokenizer.encode(text, add_special_tokens=False).ids
        decisions.append(Decision("local", "answer", text, "3", tuple(ids)))
        correct.append(not is_wrong(target, verdict))
        samples.append(tuple(replace(decisions[-1], answer=source.choice(["3", "4"])) for _ in range(SAMPLES)))
    return Attempts(problems, decisions, correct, samples)


def large_target(target: int, _: bool) -> bool:
    return target > 50


def said_no(_: int, verdict: bool) -> bool:
    return not verdict


def judged(policy: Policy, name: str, rule: Callable[[int, bool], bool]) -> float:
    """AUROC on fresh attempts of a router fitted to a few hundred."""
    score = ROUTERS[name].fit(policy, made_up(policy, 480, 0, rule), seed=0)
    test = made_up(policy, 400, 1, rule)
    return auroc(score(test), [not correct for correct in test.correct])


@pytest.mark.parametrize("name", FITTED)
def test_every_router_learns_a_rule_that_the_prompt_shows(policy: Policy, name: str) -> None:
    assert judged(policy, name, large_target) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", FITTED)
def test_a_rule_of_the_answer_is_learned_by_those_who_read_it_and_no_one_else(policy: Policy, name: str) -> None:
    found = judged(policy, name, said_no)
    assert found > 0.9 if name in READS_THE_ANSWER else abs(found - 0.5) < 0.1
    assert ROUTERS[name].before_attempt == (name not in READS_THE_ANSWER)


@pytest.mark.parametrize("name", ["prompt_router", "hidden_probe"])
def test_shuffled_labels_teach_nothing(policy: Policy, name: str) -> None:
    coin = random.Random(5)
    assert abs(judged(policy, name, lambda _target, _verdict: coin.random() < 0.5) - 0.5) < 0.1


@pytest.mark.parametrize("name", ROUTERS)
def test_a_seed_makes_one_router_and_leaves_the_policy_and_the_global_generator_alone(
    policy: Policy, name: str
) -> None:
    before = {key: tensor.clone() for key, tensor in state_tensors(policy.model).items()}
    generator = torch.random.get_rng_state()
    train, test = made_up(policy, 100, 0, large_target), made_up(policy, 20, 1, large_target)
    first, again = (ROUTERS[name].fit(policy, train, seed=7)(test) for _ in range(2))
    assert first == again
    assert all(torch.tensor(first).isfinite())
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert all(torch.equal(tensor, before[key]) for key, tensor in state_tensors(policy.model).items())


def test_samples_agree_where_they_answer_the_same_text_and_cost_what_they_write(policy: Policy) -> None:
    attempts = attempt(policy, TASK, TASK.problems("test", 6, 0))
    drawn = with_samples(policy, attempts, 3, seed=1, batch_size=4)
    assert drawn == with_samples(policy, attempts, 3, seed=1, batch_size=6)
    assert drawn.samples != with_samples(policy, attempts, 3, seed=2).samples
    assert all(len(each) == 3 for each in drawn.samples)
    tokens = [len(decision.token_ids) for decision in attempts.decisions]
    assert attempts.device_tokens == tokens
    assert all(more >= one + 3 for more, one in zip(drawn.device_tokens, tokens, strict=True))

    own = Decision("local", "answer", "", "3 + 4", (1, 2))
    none, called = replace(own, answer=None), replace(own, answer=None, route="cloud", reason="marker")
    row = (replace(own, answer="3+4"), replace(own, answer="4 + 3"), none, called)
    twice = Attempts(drawn.problems[:2], [own, none], [True, False], [row, row])
    assert ROUTERS["sample_agreement"].fit(policy, twice, seed=0)(twice) == [0.75, 1.0]


@torch.inference_mode()
def test_entropy_is_the_mean_over_the_response_of_what_the_logits_say(policy: Policy) -> None:
    attempts = attempt(policy, TASK, TASK.problems("test", 12, 0))
    scores = ROUTERS["token_entropy"].fit(policy, attempts, seed=0)(attempts)
    for problem, decision, score in zip(attempts.problems, attempts.decisions, scores, strict=True):
        prompt = policy.encode(problem.prompt)
        logits = policy.model(torch.tensor([[*prompt, *decision.token_ids]]))[0].double()
        entropies = torch.distributions.Categorical(logits=logits[len(prompt) - 1 : -1]).entropy()
        assert len(entropies) == len(decision.token_ids)
        assert score == pytest.approx(entropies.mean().item(), abs=1e-5)


@torch.inference_mode()
def test_a_verdict_is_what_the_logits_say_of_no_against_yes_where_it_stands(policy: Policy) -> None:
    attempts = attempt(policy, TASK, TASK.problems("test", 12, 0))
    yes, no = (policy.tokenizer.token_to_id(word) for word in ("yes", "no"))
    silent = replace(attempts.decisions[0], token_ids=(0, 1))
    attempts = replace(attempts, decisions=[silent, *attempts.decisions[1:]])
    scores = ROUTERS["own_verdict"].fit(policy, attempts, seed=0)(attempts)
    assert scores[0] == max(scores) == SILENT
    for problem, decision, score in list(zip(attempts.problems, attempts.decisions, scores, strict=True))[1:]:
        prompt, (place,) = (
            policy.encode(problem.prompt),
            [i for i, t in enumerate(decision.token_ids) if t in (yes, no)],
        )
        logits = policy.model(torch.tensor([[*prompt, *decision.token_ids]]))[0, len(prompt) + place - 1]
        assert score == pytest.approx(float(logits[no] - logits[yes]), abs=1e-4)
        assert (score > 0) == (decision.token_ids[place] == no)


def test_a_verdict_ranks_what_it_says_and_a_policy_without_one_is_refused(policy: Policy) -> None:
    own = attempt(policy, TASK, TASK.problems("test", 60, 0))
    scores = ROUTERS["own_verdict"].fit(policy, own, seed=0)(own)
    assert auroc(scores, [not correct for correct in own.correct]) > 0.8
    mute = made_up(policy, 12, 0, said_no)
    mute = replace(mute, decisions=[replace(each, token_ids=(0,)) for each in mute.decisions])
    with pytest.raises(EdgekitError, match="none of 12 attempts says 'yes' or 'no'"):
        ROUTERS["own_verdict"].fit(policy, mute, seed=0)


def test_entropy_of_no_response_is_zero_and_of_a_long_one_never_holds_all_its_logits(policy: Policy) -> None:
    empty = Decision("cloud", "no_answer", "", None, ())
    long = replace(empty, token_ids=(5,) * 110)
    problem = TASK.problem([3, 5], 8)
    sizes: list[int] = []
    hook = policy.model.lm_head.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    attempts = Attempts([problem] * 7, [empty, *[long] * 6], [False] * 7)
    scores = ROUTERS["token_entropy"].fit(policy, attempts, seed=0)(attempts)
    hook.remove()
    assert scores[0] == 0.0 < scores[1]
    assert max(sizes) <= POSITIONS_AT_ONCE < 6 * 110


@torch.inference_mode()
def test_batched_states_are_those_of_each_sequence_alone(policy: Policy) -> None:
    made = sequences(policy, attempt(policy, TASK, TASK.problems("test", 9, 0)))
    states = last_token_states(policy.model, made.ids, [2, 3])
    for row, ids in enumerate(made.ids):
        seen: list[torch.Tensor] = []
        hook = policy.model.model.layers[1].register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out))
        logits = policy.model(torch.tensor([ids]))[0, -1]
        hook.remove()
        torch.testing.assert_close(states[2][row], seen[0][0, -1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(policy.model.lm_head(states[3][row]), logits, rtol=1e-4, atol=1e-4)


def test_batches_hold_every_row_once_within_the_bound() -> None:
    lengths = [3, 50, 7, 7, 120, 1, 30]
    found = list(batches(lengths, tokens=60))
    assert sorted(row for rows in found for row in rows) == list(range(7))
    assert all(len(rows) == 1 or max(lengths[row] for row in rows) * len(rows) <= 60 for rows in found)


def test_the_probe_is_where_the_gradient_of_its_loss_vanishes() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator) * torch.tensor([1.0, 9.0, 0.1, 1.0, 1.0]) + 3
    y = (x[:, 0] + torch.randn(200, generator=generator) > 3).float()
    probe = logistic_regression(x, y, 0.01)
    # d/dw of mean log loss + 0.005 |w|^2 is X'(p - y) / n + 0.01 w, and d/db is mean(p - y).
    standard = (x.double() - probe.mean) / probe.spread
    error = torch.sigmoid(probe(x)) - y
    assert (standard.T @ error / 200 + 0.01 * probe.weights).abs().max() < 1e-5
    assert error.mean().abs() < 1e-5


def test_too_few_attempts_are_refused(policy: Policy) -> None:
    for name in FITTED:
        with pytest.raises(EdgekitError, match="too few attempts: 4"):
            ROUTERS[name].fit(policy, made_up(policy, 4, 0, large_target), seed=0)


def test_a_policy_that_is_always_wrong_still_gets_finite_scores(policy: Policy) -> None:
    train = made_up(policy, 40, 0, lambda _target, _verdict: True)
    for name in FITTED:
        assert all(torch.tensor(ROUTERS[name].fit(policy, train, seed=0)(train)).isfinite()), name


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DeBERTa-v2 with random weights, as a Hugging Face folder."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("router") / "deberta"
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[SEP]"])
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", sep_token="[SEP]")
    wrapped.save_pretrained(folder)
    config = transformers.DebertaV2Config(
        vocab_size=len(wrapped), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=wrapped.pad_token_id, hidden_dropout_prob=0.1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.DebertaV2ForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("reads", "rule"), [("prompt", large_target), ("answer", said_no)])
def test_a_transformers_classifier_learns_from_what_it_reads(
    policy: Policy, encoder_folder: Path, reads: str, rule: Callable[[int, bool], bool]
) -> None:
    router = pretrained_router(str(encoder_folder), reads, QUICK)  # type: ignore[arg-type]
    test = made_up(policy, 200, 1, rule)
    scores = router.fit(policy, made_up(policy, 480, 0, rule), seed=0)(test)
    assert auroc(scores, [not correct for correct in test.correct]) > 0.9
    assert router.before_attempt == (reads == "prompt")


def test_a_transformers_classifier_has_its_dropout_and_its_head_from_the_seed(
    policy: Policy, encoder_folder: Path
) -> None:
    fit, train = pretrained_router(str(encoder_folder), "prompt", QUICK).fit, made_up(policy, 40, 0, large_target)
    generator = torch.random.get_rng_state()
    first, again, other = (fit(policy, train, seed=seed)(train) for seed in (3, 3, 4))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_a_router_model_that_is_not_there_is_named(policy: Policy, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    assert find_router("hidden_probe", "some/encoder") is ROUTERS["hidden_probe"]
    router = find_router("prompt_router", str(tmp_path / "nothing"))
    with pytest.raises(EdgekitError, match=r"no router model: .*nothing"):
        router.fit(policy, made_up(policy, 20, 0, large_target), seed=0)
