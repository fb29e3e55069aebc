"""What transformers does, beside which the policy's own reading is held."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.policy.tokens import build_tokenizer


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The built-in tokenizer in transformers, whose apply_chat_template writes what is expected."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("theirs") / "tokenizer.json"
    build_tokenizer().save(str(path))
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(path), bos_token="<|begin|>")
