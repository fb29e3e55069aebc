"""The model's own verdict: how sure the policy was that its attempt had failed, where it said so. Nothing is fitted.

A policy that writes "yes" or "no" on its own attempt, as the built-in one and one warm-started on traces do, has told
whether it believes its answer. This reads how much: the log-odds of "no" against "yes" at the last such place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.errors import EdgekitError
from edgekit.experiment.attempts import Attempts
from edgekit.experiment.routers.base import Scorer
from edgekit.experiment.routers.forward import final_states, sequences
from edgekit.policy.checkpoint import Policy

YES, NO = "yes", "no"
SILENT = 1e3
"""The score of an attempt that ends without a verdict: as good as a certain "no"."""


def fit_own_verdict(policy: Policy, train: Attempts, *, seed: int) -> Scorer:
    """Score = log P("no") - log P("yes") where the response's last verdict stands, before it was chosen.

    Each is the sum over the tokens that are that word, with or without a space. ``train`` and ``seed`` are there for
    the shape of a fit and change no score. Raises :class:`EdgekitError` if no token of the policy is one of the words,
    or no attempt of ``train`` has a verdict: such a policy does not judge itself.
    """
    del seed
    words = {word: _tokens_of(policy, word) for word in (YES, NO)}
    if not all(words.values()):
        raise EdgekitError(f"no verdict to read: the tokenizer has no token {YES!r} or {NO!r}. Leave own_verdict out.")
    either = {*words[YES], *words[NO]}
    if not any(token in either for decision in train.decisions for token in decision.token_ids):
        raise EdgekitError(
            f"no verdict to read: none of {len(train)} attempts says {YES!r} or {NO!r}. The policy does not judge "
            "itself. Leave own_verdict out."
        )
    return lambda attempts: _log_odds(policy, attempts, words, either)


def _tokens_of(policy: Policy, word: str) -> list[int]:
    tokenizer = policy.tokenizer
    return [id for id in sorted(tokenizer.get_vocab().values()) if tokenizer.decode([id]).strip() == word]


@torch.inference_mode()
def _log_odds(policy: Policy, attempts: Attempts, words: dict[str, list[int]], either: set[int]) -> list[float]:
    made, scores = sequences(policy, attempts), [SILENT] * len(attempts)
    for row, states in final_states(policy.model, made.ids):
        begin = made.prompt_lengths[row]
        places = [place for place in range(begin, len(made.ids[row])) if made.ids[row][place] in either]
        if places:
            logits: Tensor = policy.model.lm_head(states[places[-1] - 1]).double()
            no, yes = (logits[words[word]].logsumexp(0) for word in (NO, YES))
            scores[row] = float(no - yes)
    return scores
