"""Models of the Hugging Face hub, by name."""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.errors import EdgekitError

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w.-]+)?")
FILES = ("*.json", "*.safetensors", "*.jinja")
"""What edgekit reads of a model; repositories hold the same weights in other formats too."""


def is_hub_name(base: str) -> bool:
    """Whether ``base`` is OWNER/NAME or OWNER/NAME@REVISION, and no folder of this machine."""
    return _NAME.fullmatch(base) is not None and not Path(base).exists()


def hub_folder(name: str) -> Path:
    """The folder of the hub's model ``name``, downloaded on first use; its own name is the commit's hash.

    ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and ``HF_HUB_OFFLINE`` mean what they mean to huggingface_hub. Raises
    :class:`EdgekitError` if it cannot be had.
    """
    from huggingface_hub import errors, snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(FILES)))
    except errors.GatedRepoError:
        why = "Its owner lets only people in who asked. Accept its licence on the hub and set HF_TOKEN."
    except errors.RevisionNotFoundError:
        why = f"It has no revision {revision}. Check the part after the @."
    except errors.RepositoryNotFoundError:
        why = "Neither a folder here nor a model of the hub that you may see. Check the name, or set HF_TOKEN."
    except errors.LocalEntryNotFoundError:
        why = "Neither a folder here nor downloaded before, and the hub cannot be reached. Connect, or name a folder."
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        why = " ".join(str(error).split())[:160].rstrip(".") + ". Try again, or name a folder."
    raise EdgekitError(f"cannot fetch {name}. {why}")
