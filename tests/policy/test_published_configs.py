"""What publishers write into config.json is read as transformers reads it, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from published_configs import REFUSED, TAKEN

from edgekit.errors import BundleError
from edgekit.policy.checkpoint import load_model, read_config

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", TAKEN)
def test_published_keys_are_known(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TAKEN[name]))
    assert read_config(path).family == TAKEN[name]["model_type"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_computed_is_refused_by_name_in_one_line(name: str, tmp_path: Path) -> None:
    config, fault = REFUSED[name]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(BundleError, match=fault) as raised:
        read_config(path)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", TAKEN)
def test_logits_of_published_configs_equal_transformers(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TAKEN[name]))
    torch.manual_seed(1)
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(tmp_path))
    theirs = theirs.float().eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path)
    path.write_text(json.dumps(TAKEN[name]))  # in its publisher's words again
    ours = load_model(tmp_path)
    for length in (5, 200):
        ids = torch.randint(0, 96, (2, length), generator=torch.Generator().manual_seed(2))
        with torch.inference_mode():
            logits, expected = ours(ids), theirs(ids).logits
        assert float((logits - expected).abs().max() / expected.abs().max()) < 1e-4
