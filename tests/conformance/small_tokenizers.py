"""Small tokenizers in the layouts of well-known families, trained on a few sentences, the same every time.

Usage: .venv/bin/python tests/conformance/small_tokenizers.py writes tokenizers/NAME.json beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

FOLDER = Path(__file__).parent / "tokenizers"
SPACE = "\u2581"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
MARKER = "<unknown> I need external assistance </unknown>"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SENTENCES = (
    "Use 3 7 11 12 -> 58", "Solve the task. The answer is 42, the other answer is 17.", "na\u00efve Stra\u00dfe",
    "The quick brown fox jumps over the lazy dog, and the dog answers: assistance, please.", "yes no yes no",
    "def f(x):\n    return x + 1\n\nprint(f(2))", "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440",
    "<start_of_turn>user model assistant system", "one two  three   four", "unknown I need external",
)  # fmt: skip


def byte_level(name: str) -> Tokenizer:
    """Byte-level BPE: Llama 3's pattern, merges ignored for whole words; a normalizer and flags; SmolLM2's digits."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    cut = pre_tokenizers.Split(Regex(LLAMA3), "isolated") if name != "smollm2_like" else pre_tokenizers.Digits(True)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name == "smollm2_like")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    if name == "flags":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if name == "flags":
        tokenizer.add_tokens(
            [
                AddedToken("<tool>", normalized=False),
                AddedToken("<tool>2", normalized=False, lstrip=True, rstrip=True),
                AddedToken("word", normalized=True, single_word=True),
                AddedToken("caf\u00e9", normalized=True),
                AddedToken("an", normalized=False),  # a delimiter that the model's own merges reach
            ]
        )
        tokenizer.add_special_tokens([AddedToken("er", normalized=False)])  # a control token that they reach
    return tokenizer


def sentencepiece(name: str) -> Tokenizer:
    """SentencePiece BPE with byte fallback, as each family writes it."""
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=name != "gemma3")
    specials = ["<unk>", "<s>", "</s>", *BYTES]
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=specials, show_progress=False, max_token_length=12)
    trained.train_from_iterator(SENTENCES, trainer)
    data = json.loads(trained.to_str())
    model = data["model"]
    if name == "gemma3":  # runs of line breaks are tokens of the vocabulary and added tokens at once
        for count in range(1, 5):
            model["vocab"].setdefault("\n" * count, len(model["vocab"]))
        model["merges"] += [["\n" * count, "\n"] for count in range(3, 0, -1)]
    tokenizer = Tokenizer(
        models.BPE(
            model["vocab"], [tuple(pair) for pair in model["merges"]], byte_fallback=True, unk_token="<unk>",
            fuse_unk=True,
        )
    )  # fmt: skip
    underscore = normalizers.Replace(" ", SPACE)
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if name == "llama2":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), underscore])
        steps.append(decoders.Strip(" ", 1, 0))
    elif name == "gemma3":
        tokenizer.normalizer = underscore
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        tokenizer.add_tokens([AddedToken("\n" * count, normalized=False) for count in range(1, 5)])
    elif name == "mistral":  # as transformers converts it since 4.40
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        steps = [decoders.Metaspace(prepend_scheme="first", split=False)]
    elif name == "trimmed":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFKC(), underscore])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in ("<unk>", "<s>", "</s>")])
    return tokenizer


def make() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each tokenizer's name and content."""
    byte_level_ones = ("llama3", "flags", "smollm2_like")
    for name in (*byte_level_ones, "llama2", "gemma3", "mistral", "trimmed"):
        tokenizer = byte_level(name) if name in byte_level_ones else sentencepiece(name)
        tokenizer.add_special_tokens(
            [AddedToken(text, normalized=False) for text in ("<|im_start|>", "<|im_end|>", MARKER)]
        )
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("<answer>", "</answer>")])
        yield name, json.loads(tokenizer.to_str())


def text_of(data: dict[str, Any]) -> str:
    """The file's text."""
    return json.dumps(data, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, data in make():
        (FOLDER / f"{name}.json").write_text(text_of(data))
