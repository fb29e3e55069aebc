"""The built-in policy's tokenizer: byte-level BPE in which every integer below 200 is one token.

It is built, not trained: the merges are listed here. Being byte-level it takes any text, and the
phone apps read it like any other tokenizer.json.
"""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from edgekit.routing.vocabulary import byte_alphabet

MARKER = "<unknown> I need external assistance </unknown>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
END = "<|end|>"
INTEGERS = 200
_SPACE = "\u0120"  # the byte alphabet's stand-in for a space
_WORDS = ("Use", "yes", "no", *(_SPACE + sign for sign in ("->", "+", "-", "*", "/", "=", "(")))


def build_tokenizer() -> Tokenizer:
    """The built-in tokenizer; the same every time."""
    pieces = sorted(byte_alphabet(), key=lambda character: byte_alphabet()[character])
    merges: list[tuple[str, str]] = []
    for number in map(str, range(10, INTEGERS)):
        # BPE may have joined either end of a three-digit number first, so both ways lead to it.
        ways = {(number[:-1], number[-1])} | ({(number[0], number[1:])} if number[1] != "0" else set())
        merges += sorted(ways)
        pieces.append(number)
    for number in map(str, range(INTEGERS)):
        merges.append((_SPACE, number))
        pieces.append(_SPACE + number)
    for word in _WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                merges.append((word[: end - 1], word[end - 1]))
                pieces.append(word[:end])
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (ANSWER_OPEN, ANSWER_CLOSE)])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in (MARKER, END)])
    return tokenizer


def padded_vocabulary_size(tokenizer: Tokenizer, multiple: int = 32) -> int:
    """The embedding's rows: the vocabulary rounded up to a ``multiple`` that quantized kernels like."""
    return -(-tokenizer.get_vocab_size() // multiple) * multiple
