"""What is wrong with a bundle before anything runs: its routing data, its tokenizer, its recorded cases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit.bundle.conformance import AnyCase, ConformanceCase, RecordedDecision, RecordedResponse
from edgekit.bundle.load import Bundle
from edgekit.routing.decoder import RoutingDecoder
from edgekit.routing.replay import before_each
from edgekit.routing.spec import RoutingSpec
from edgekit.verify.parity import common_prefix

if TYPE_CHECKING:
    from edgekit.policy.checkpoint import Policy


SAME_AS_REFERENCE = ("answer", "max_new_tokens", "prompt_trim", "on_no_answer")
"""What else of routing.json decides, though the prompts at hand may not show it."""


def structure_faults(bundle: Bundle, reference: Policy | None) -> list[str]:
    """What is wrong before anything runs: vocabulary size, routing ids, stop ids, tokenizer.

    All of it is written when the artifact is lowered and packed, so all of it is the lowering hop's.
    """
    routing, size = bundle.routing, bundle.manifest.model.vocab_size
    faults = []
    if not routing.stop_token_ids:
        faults.append("lowering: routing.json names no stop token")
    if both := set(routing.stop_token_ids) & {i for marker in routing.marker.token_ids for i in marker}:
        faults.append(f"lowering: {sorted(both)} are stop tokens and the marker's at once")
    ids = [*(i for marker in routing.marker.token_ids for i in marker), *routing.stop_token_ids]
    if any(not 0 <= i < size for i in ids):
        faults.append(f"lowering: routing.json names token ids outside the vocabulary of {size}")
    for marker in routing.marker.token_ids:
        spelled = b"".join(bundle.vocabulary[i] for i in marker).decode("utf-8", "replace")
        if spelled.strip() != routing.marker.text.strip():
            faults.append(f"lowering: marker ids {list(marker)} spell {spelled!r}, not {routing.marker.text!r}")
    if bundle.tokenizer.get_vocab_size() > size:
        faults.append(f"lowering: the tokenizer has {bundle.tokenizer.get_vocab_size()} tokens, the model {size}")
    if reference is None:
        return faults
    theirs = reference.routing
    if reference.model.config.vocab_size != size:
        faults.append(f"lowering: vocabulary of {size}, the reference's is {reference.model.config.vocab_size}")
    if routing.marker != theirs.marker:
        faults.append(f"lowering: marker ids {routing.marker.token_ids}, the reference's {theirs.marker.token_ids}")
    if routing.stop_token_ids != theirs.stop_token_ids:
        faults.append(f"lowering: stop ids {routing.stop_token_ids}, the reference's are {theirs.stop_token_ids}")
    if routing.prompt_template != theirs.prompt_template:
        faults.append("lowering: the bundle's prompt template is not the reference's")
    for name in SAME_AS_REFERENCE:
        if getattr(routing, name) != getattr(theirs, name):
            faults.append(f"lowering: {name} {getattr(routing, name)}, the reference's is {getattr(theirs, name)}")
    if bundle.tokenizer.to_str() != reference.tokenizer.to_str():
        faults.append("lowering: the bundle's tokenizer is not the reference's")
    return faults


def case_faults(bundle: Bundle) -> list[str]:
    """What of the recorded cases does not follow from what ships: prompts, tokens, texts, answers, places, biases.

    One line a kind of fault, with the first case that has it. Raises :class:`BundleError` for cases that cannot be
    read.
    """
    cases = bundle.conformance()
    found: dict[str, list[str]] = {}
    for case in cases:
        for kind, detail in _faults_of(bundle, case):
            found.setdefault(kind, []).append(f"{case.id}{detail}")
    faults = [
        f"lowering: {len(where)} of {len(cases)} cases: {kind} (first {where[0]})" for kind, where in found.items()
    ]
    routing, biases = bundle.routing, {case.marker_bias for case in cases}
    if len(biases) > 1:
        faults.append("lowering: the cases were exported at different marker biases")
    elif biases and routing.marker_bias not in biases and not _is_calibrated(routing):
        other = f"is neither the export's, {biases.pop():g}, nor a calibration's"
        faults.append(f"lowering: routing.json's marker bias {routing.marker_bias:g} {other}")
    return faults


def _is_calibrated(routing: RoutingSpec) -> bool:
    """Whether the marker bias is one that was fitted; version 1 says only that one was."""
    if routing.version == 1:
        return routing.calibrated_call_fraction is not None
    return routing.calibration is not None and routing.calibration.marker_bias == routing.marker_bias


def can_be_run(bundle: Bundle) -> bool:
    """Whether the marker and every recorded case can be fed to the artifact at all."""
    facts = bundle.manifest.model
    ids = [i for marker in bundle.routing.marker.token_ids for i in marker]
    for case in bundle.conformance():
        longest = max(len(side.token_ids) for side in (case.reference, case.quantized_reference))
        if not 0 < len(case.prompt_token_ids) <= facts.context_length - longest:
            return False
        ids += [*case.prompt_token_ids, *case.reference.token_ids, *case.quantized_reference.token_ids]
    return all(0 <= i < facts.vocab_size for i in ids)


def _faults_of(bundle: Bundle, case: AnyCase) -> Iterator[tuple[str, str]]:
    size, ids = bundle.manifest.model.vocab_size, bundle.encode(case.prompt)
    sides: list[tuple[str, RecordedDecision | RecordedResponse]] = [
        ("reference", case.reference),
        ("quantized reference", case.quantized_reference),
    ]
    if any(i >= size for i in (*case.prompt_token_ids, *(i for _, side in sides for i in side.token_ids))):
        yield f"token ids outside the vocabulary of {size}", ""
        return
    longest = max(len(side.token_ids) for _, side in sides)
    if not 0 < len(case.prompt_token_ids) <= bundle.manifest.model.context_length - longest:
        yield "prompt and response do not fit in the context", ""
    if tuple(ids) != case.prompt_token_ids:
        at = common_prefix(ids, case.prompt_token_ids)
        yield "the tokenizer and the template give other prompt ids than recorded", f" at token {at}"
    for name, side in sides:
        decoder = RoutingDecoder(bundle.routing, bundle.vocabulary)
        for token in side.token_ids:
            decoder.push(token)
        made = decoder.finish()
        if made.token_ids != side.token_ids:
            yield f"the {name}'s tokens go on after the response has ended", ""
        elif (made.route, made.reason) != (side.route, side.reason):
            yield f"the {name}'s tokens decide {made.route}/{made.reason}, not what is recorded", ""
        elif (made.text, made.answer) != (side.text, side.answer):
            yield f"the {name}'s tokens spell another text or answer than recorded", ""
        elif isinstance(side, RecordedResponse) and not _places_count(bundle, side):
            yield f"the {name}'s margins do not stand where a marker would count", ""
    if isinstance(case, ConformanceCase) and "marker" in (case.reference.reason, case.quantized_reference.reason):
        yield "a response with the marker forbidden ends in the marker", ""


def _places_count(bundle: Bundle, side: RecordedResponse) -> bool:
    """Whether ``side`` has a margin just where it was decided whether to call; with longer markers, only there."""
    room = bundle.routing.max_new_tokens
    decoders = enumerate(before_each(bundle.routing, bundle.vocabulary, side.token_ids))
    open_at = [position for position, decoder in decoders if decoder.open_markers(room)]
    positions = [position for position, _ in side.margins]
    if all(len(marker) == 1 for marker in bundle.routing.marker.token_ids):
        return positions == open_at
    return set(positions) <= set(open_at) and positions == sorted(positions)
