"""What training starts from: the built-in base, a policy folder, or a pretrained model warm-started here, once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import edgekit.policy
from edgekit.atomic_write import new_directory
from edgekit.cache import UNFINISHED, cache_folder
from edgekit.plain_file import read_text
from edgekit.policy.adopt import adopt
from edgekit.policy.checkpoint import Policy, load_policy, save_policy
from edgekit.policy.device import DeviceName, open_device
from edgekit.policy.gemma3_270m import GEMMA3_270M
from edgekit.policy.gguf_package import GgufPackage, package_folder
from edgekit.policy.grid import Grid, floats_behind
from edgekit.policy.hub import hub_folder, is_hub_name
from edgekit.policy.smollm2 import SMOLLM2
from edgekit.progress import Progress
from edgekit.tasks import get_task, task_content
from edgekit.warm_start.kinds import KINDS, WarmStart, read_settings
from edgekit.warm_start.work import Work, unfinished

PACKAGED: dict[str, GgufPackage] = {"smollm2": SMOLLM2, "gemma3-270m": GEMMA3_270M}
"""Models that a package index carries."""
NAMED_BASES = ("builtin", *PACKAGED)
LARGE_VOCABULARY = 2000
"""So many tokens spell words; the built-in policy has 672."""


class Start(Protocol):
    """What says where training starts: a training configuration does.

    An ``instruction`` None means edgekit's, ``max_new_tokens`` None the warm start's own.
    """

    @property
    def base(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def warm_start(self) -> WarmStart: ...
    @property
    def warm_start_settings(self) -> Mapping[str, Any]: ...
    @property
    def instruction(self) -> str | None: ...
    @property
    def max_new_tokens(self) -> int | None: ...
    @property
    def device(self) -> DeviceName: ...


def is_pretrained(base: str) -> bool:
    """Whether ``base`` may be a language model that does not know the marker yet."""
    folder = Path(base)
    lacks_routing = (folder / "config.json").is_file() and not (folder / "routing.json").is_file()
    return base in PACKAGED or is_hub_name(base) or lacks_routing


def is_language_model(base: str) -> bool:
    """Whether ``base`` is a pretrained model, or a policy made of one: its vocabulary is no list of numbers."""
    if is_pretrained(base):
        return True
    try:
        size = json.loads(read_text(Path(base) / "config.json")).get("vocab_size")
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
    return isinstance(size, int) and size >= LARGE_VOCABULARY


def absolute_base(base: str) -> str:
    """``base`` in a form that does not depend on the working directory, from which a run may be resumed."""
    return base if base in NAMED_BASES or is_hub_name(base) else str(Path(base).resolve())


def builtin_base() -> Path:
    """The folder of the policy that edgekit comes with."""
    return Path(edgekit.policy.__file__).parent / "base"


def run_base(start: Start, on_progress: Progress | None = None, *, grid: Grid | None = None) -> Path:
    """The policy folder that ``start`` names; a pretrained model is warm-started and cached on first use.

    Models of a package index and of the hub are downloaded before. A warm start that was killed goes on where it was.
    The cached one is taken for the same model, task, kind and version of warm start, settings, prompt and seed,
    whatever the device. With ``grid``, a kind that can goes on on it, from the floats' warm start, and its folder holds
    the floats behind the grid; so does that of a policy on this grid that keeps them. ``on_progress`` is told while
    there is something to make. Raises :class:`EdgekitError` if the weights cannot be had.
    """
    if start.base == "builtin":
        return builtin_base()
    if not is_pretrained(start.base):
        return Path(start.base) if grid is None else floats_behind(Path(start.base), grid)
    if on_progress is not None:
        terms = f" ({PACKAGED[start.base].terms})" if start.base in PACKAGED else ""
        on_progress(0, 1, f"reading the model{terms}")
    source, identity = _source(start.base)
    if (source / "routing.json").is_file():  # a policy on the hub
        return source if grid is None else floats_behind(source, grid)
    kind, settings = KINDS[start.warm_start], read_settings(start.warm_start, start.warm_start_settings)
    task = get_task(start.task)
    template = kind.template if start.base in PACKAGED else None  # without a chat format a prompt is half as long
    instruction = kind.instruction if start.instruction is None else start.instruction or None
    limit = start.max_new_tokens or kind.max_new_tokens
    told = settings.model_dump(mode="json")
    on_grid = told.pop("on_grid", None)
    made_of = {
        "model": identity,
        "task": task_content(start.task),
        "kind": [start.warm_start, kind.version],
        "settings": told,
        "prompt": template or instruction,
        "max_new_tokens": limit,
        "seed": start.seed,
    }
    name = f"{start.base if start.base in PACKAGED else _last(start.base, source)}-{_plain(task.name)}"

    def adopted() -> Policy:
        return adopt(source, max_new_tokens=limit, prompt_template=template, instruction=instruction)

    def teach(policy: Policy, work: Work) -> None:
        kind.teach(policy, task, settings, seed=start.seed, work=work, on_progress=on_progress)

    folder = _made_once(f"{name}-{_key(made_of)}", start.device, adopted, teach)
    if grid is None or kind.settle is None:
        return folder

    def settle(policy: Policy, work: Work) -> None:
        assert kind.settle is not None
        kind.settle(policy, task, settings, grid.quantize, seed=start.seed, work=work, on_progress=on_progress)

    made_of |= {"on_grid": on_grid, "grid": grid.quantize.model_dump(mode="json"), "weights": "floats behind it"}
    return _made_once(
        f"{name}-{_plain(grid.recipe)}-{_key(made_of)}", start.device, partial(load_policy, folder), settle
    )


def _made_once(
    name: str, device: DeviceName, begin: Callable[[], Policy], teach: Callable[[Policy, Work], None]
) -> Path:
    """The policy folder of that name in the cache; made, if it is not there, of what ``begin`` gives."""
    folder = cache_folder() / name
    if not (folder / "routing.json").is_file():
        with unfinished(folder.with_name(f"{name}{UNFINISHED}")) as work:
            policy = begin()
            policy.model.to(open_device(device))
            teach(policy, work)
            with new_directory(folder, marker_file="routing.json", private=True) as new:
                save_policy(policy, new)
    return folder


def _key(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _last(base: str, source: Path) -> str:
    return base.rpartition("/")[2] if is_hub_name(base) else source.name


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def _source(base: str) -> tuple[Path, str]:
    """The model's folder, and what tells it from others."""
    if base in PACKAGED:
        return package_folder(PACKAGED[base]), PACKAGED[base].sha256
    if is_hub_name(base):
        folder = hub_folder(base)
        return folder, f"{base}@{folder.name}"
    return Path(base), _fingerprint(Path(base))


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.jinja"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
