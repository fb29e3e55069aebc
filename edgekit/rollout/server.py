"""Group sampling on a vLLM server: token ids there and back, and the policy's present weights before each batch.

Prompts go as token ids and responses come back as token ids (``return_token_ids``, vLLM 0.10.2 or newer), so no
text is tokenized twice. Where a response ends is for the same :class:`RoutingDecoder` to say as everywhere else.
Weights go through a folder that both sides see: ``POST /collective_rpc`` has the server's workers reload it, which
vLLM offers when started with VLLM_SERVER_DEV_MODE=1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgekit.cloud.address import address_fault, model_and_address
from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy
from edgekit.record_lines import is_number
from edgekit.rollout.response import Group, Response, group_of
from edgekit.routing.decoder import RoutingDecoder

T = TypeVar("T")
KEY_VARIABLE = "EDGEKIT_ROLLOUT_API_KEY"
FORMS = "local or vllm:MODEL@http://HOST:PORT/v1"
# The policy's own distribution: a server may have other defaults from the model's generation_config.json.
PLAIN_SAMPLING = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
NEVER = -100
"""Added to a logit: the lowest that servers take."""
REQUESTS_AT_ONCE = 64


def server_address(rollouts: str) -> tuple[str, str] | None:
    """(model, base address) of ``vllm:MODEL@URL``, None for ``local``. Raises ValueError for anything else."""
    if rollouts == "local":
        return None
    kind, _, rest = rollouts.partition(":")
    place = model_and_address(rest)
    if kind != "vllm" or place is None:
        raise ValueError(f"{rollouts.partition('://')[0]!r} is not {FORMS}")  # what follows may hold a password
    if (fault := address_fault(place[1])) is not None:
        raise ValueError(f"the address of {place[0]!r} {fault}, it is not {FORMS}")
    return place


class RolloutServer:
    """``model`` served at ``base_url``. Every failure is an :class:`EdgekitError` that never shows the key."""

    def __init__(self, model: str, base_url: str, api_key: str = "", *, timeout: float = 600.0) -> None:
        import openai

        self.model, self.base_url, self._key = model, base_url, api_key
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key or "none", timeout=timeout, max_retries=1)

    def check(self) -> None:
        """Raise :class:`EdgekitError` unless the server is there and serves the model."""
        served = self._ask(lambda: [model.id for model in self._client.models.list().data])
        if self.model not in served:
            raise self._failure(f"it serves {', '.join(served) or 'nothing'}")

    def load_weights(self, folder: Path) -> None:
        """Have the server take the weights of the Hugging Face ``folder``, which it must see under the same path."""
        root = self._client.with_options(base_url=self.base_url.removesuffix("/v1"), max_retries=0)
        reload = {"method": "reload_weights", "kwargs": {"weights_path": str(folder.resolve())}}
        self._ask(lambda: root.post("/collective_rpc", cast_to=str, body=reload))
        # What is cached of the prompts was computed with the old weights.
        self._ask(lambda: root.post("/reset_prefix_cache", cast_to=str))

    def sample_groups(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        *,
        temperature: float,
        seed: int,
        first: int = 0,
    ) -> list[Group]:
        """As :func:`edgekit.rollout.sampler.sample_groups`, from the server's weights.

        The server draws by (``seed``, ``first`` + i) too, but how it batches requests changes the last bits of
        its logits: runs are alike, not identical.
        """
        limit = policy.routing.max_new_tokens
        context = policy.model.config.context_length
        longest = max(map(len, prompts), default=0)
        if longest >= context:
            raise EdgekitError(f"prompt too long: {longest} tokens. The context holds {context}. Use shorter problems.")

        def sample(index: int) -> Group:
            prompt, room = prompts[index], min(limit, context - len(prompts[index]))
            seeds = np.random.SeedSequence([seed, first + index])
            return self._group(policy, tuple(prompt), group_size, temperature, seeds, room)

        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            return list(pool.map(sample, range(len(prompts))))

    def _group(
        self,
        policy: Policy,
        prompt: tuple[int, ...],
        group_size: int,
        temperature: float,
        seeds: np.random.SeedSequence,
        limit: int,
    ) -> Group:
        stops = stop_tokens(policy)
        never = {str(token_id): NEVER for token_id in policy.model.without_token.tolist()}
        rows = [Response(RoutingDecoder(policy.routing, policy.vocabulary), limit) for _ in range(group_size)]
        waiting = rows
        while waiting:
            # Together at first; alone where a token that can end a response did not end this one.
            together = not any(row.decoder.token_ids for row in waiting)
            batch = waiting if together else waiting[:1]
            written = batch[0].decoder.token_ids
            replies = self._complete(
                [*prompt, *written],
                n=len(batch),
                max_tokens=limit - len(written),
                temperature=temperature,
                seed=int(seeds.spawn(1)[0].generate_state(1, np.uint64)[0] >> 2),
                stop_token_ids=stops,
                **({"logit_bias": never} if never else {}),
            )
            for row, reply in zip(batch, replies, strict=True):
                row.extend(*zip(*reply, strict=True))
            waiting = [row for row in waiting if not row.done]
        return group_of(prompt, rows)

    def _complete(
        self, prompt: list[int], *, n: int, stop_token_ids: list[int], **sampling: Any
    ) -> list[list[tuple[int, float | None]]]:
        """Tokens of ``n`` responses to ``prompt``, each at least one long: ids, and log-probabilities where known."""
        if sampling["temperature"] == 1.0:  # a server gives those of its logits as they are
            sampling["logprobs"] = 1
        extra = {**PLAIN_SAMPLING, "stop_token_ids": stop_token_ids, "return_token_ids": True}
        create = self._client.completions.create
        reply = self._ask(lambda: create(model=self.model, prompt=prompt, n=n, top_p=1.0, extra_body=extra, **sampling))
        choices = sorted(reply.choices or [], key=lambda choice: choice.index)
        responses = [getattr(choice, "token_ids", None) for choice in choices]
        if len(responses) != n:
            raise self._failure(f"it sent {len(responses)} responses where {n} were asked for")
        if not all(isinstance(ids, list) and ids and all(isinstance(each, int) for each in ids) for ids in responses):
            raise self._failure("its reply holds no token_ids, which vLLM has from 0.10.2")
        read = getattr(choices[0], "prompt_token_ids", None)
        if read is not None and read != prompt:
            raise self._failure("it read another prompt than it was sent")
        return [
            list(zip(ids, _log_probs(choice, len(ids)), strict=True))
            for ids, choice in zip(responses, choices, strict=True)
            if ids is not None
        ]

    def _ask(self, call: Callable[[], T]) -> T:
        import openai

        try:
            return call()
        except openai.APITimeoutError:
            raise self._failure("it did not answer in time") from None
        except openai.NotFoundError as error:
            if "collective_rpc" in str(error.request.url):
                raise self._failure("it takes no new weights, set VLLM_SERVER_DEV_MODE=1 for it") from None
            raise self._failure("it answered with status 404") from None
        except openai.APIStatusError as error:
            said = " ".join(error.message.split())[:120].rstrip(".")
            raise self._failure(f"it answered with status {error.status_code}, {said}") from None
        except openai.APIConnectionError:
            raise self._failure("it cannot be reached") from None
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
            raise self._failure(f"its reply cannot be read ({type(error).__name__})") from None

    def _failure(self, why: str) -> EdgekitError:
        line = f"rollouts failed: {self.model} at {self.base_url}. {why}. Check the server, its model and its address."
        return EdgekitError(line.replace(self._key, "***") if self._key else line)


def _log_probs(choice: Any, length: int) -> list[float | None]:
    """The log-probabilities of a choice's ``length`` tokens; None for each if it does not give them."""
    given = getattr(getattr(choice, "logprobs", None), "token_logprobs", None)
    if not isinstance(given, list) or len(given) != length:
        return [None] * length
    return [float(each) if is_number(each) else None for each in given]


def stop_tokens(policy: Policy) -> list[int]:
    """Single tokens at which a response may end; the decoder says whether it does."""
    routing = policy.routing
    markers = [ids[0] for ids in routing.marker.token_ids if len(ids) == 1]
    close = policy.tokenizer.token_to_id(routing.answer.close)
    return sorted({*routing.stop_token_ids, *markers, *([] if close is None else [close])})
