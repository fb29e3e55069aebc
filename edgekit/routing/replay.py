"""What recorded tokens say: where a marker would have counted, and what is decided at any other marker bias."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgekit.routing.decision_rule import calls, largest_margin
from edgekit.routing.decode_loop import completion
from edgekit.routing.decoder import Decision, RoutingDecoder
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary


def before_each(spec: RoutingSpec, vocabulary: Vocabulary, token_ids: Sequence[int]) -> Iterator[RoutingDecoder]:
    """The one decoder, as it stood before each of ``token_ids``."""
    decoder = RoutingDecoder(spec, vocabulary)
    for token in token_ids:
        yield decoder
        decoder.push(token)


def marker_places(spec: RoutingSpec, vocabulary: Vocabulary, token_ids: Sequence[int]) -> list[int]:
    """The positions in a response at which a marker beginning there would have been a call."""
    decoders = before_each(spec, vocabulary, token_ids)
    return [position for position, decoder in enumerate(decoders) if decoder.marker_counts]


def decision_at(solo: Decision, marker_bias: float, spec: RoutingSpec, vocabulary: Vocabulary) -> Decision:
    """What the policy decides at ``marker_bias``, by its response with the marker forbidden and the margins there.

    Both responses are the same up to the first place where margin + bias passes 0.
    """
    places = enumerate(solo.margins)
    first = next((index for index, (_, margin) in places if calls(margin, marker_bias)), None)
    if first is None:
        return replace(solo, marker_margin=largest_margin(solo.margins, marker_bias))
    margins = solo.margins[: first + 1]
    written = solo.token_ids[: margins[-1][0]]
    decoder = RoutingDecoder(spec, vocabulary)
    for token in written:
        decoder.push(token)
    for token in completion(decoder.open_markers(spec.max_new_tokens)):
        decoder.push(token)
    margin = largest_margin(margins, marker_bias)
    return replace(decoder.finish(), marker_margin=margin, prompt_tokens=solo.prompt_tokens, margins=margins)
