"""Files and directories that appear whole or not at all, whatever ends the process.

What is being written has a name of its own, ``.edgekit-*``, locked by its writer, and takes its place in one step:
a rename, or an exchange where a directory is replaced. Where the system has no exchange, there are two steps, and
:func:`finish_replacement` or the next writer completes what a kill left between them. The next writer also sweeps
away what killed ones left: what nobody has locked.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgekit.errors import EdgekitError
from edgekit.exchange import exchange
from edgekit.folder_lock import PREFIX, still_named, try_lock

_NEW, _OLD = f"{PREFIX}new-", f"{PREFIX}old-"
"""The two names of a replacement in two steps, each followed by the name that is replaced."""
TRIES = 10


def write_file(path: Path, data: bytes | str, *, private: bool = False) -> None:
    """Replace ``path`` by ``data`` so that a reader, or a crash, sees the old file or the new one.

    The user's umask decides who may read it; ``private``: its owner alone. Raises :class:`EdgekitError` for a pipe or
    a device, which no file shall replace.
    """
    _require_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    mode = 0o600 if private else 0o666
    temporary, descriptor = _create(path.parent, lambda new: os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def require_place(path: Path) -> None:
    """Raise as :func:`write_file` would for ``path``, before long work whose result it shall hold. Leaves nothing.

    A link is refused too: ``/dev/stdout`` is one.
    """
    if path.is_symlink():
        raise EdgekitError(f"cannot write: {path}. It is a link, which a file would replace. Name what it leads to.")
    _require_replaceable(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    temporary, descriptor = _create(folder, lambda new: os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    temporary.unlink()
    os.close(descriptor)


def _require_replaceable(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise EdgekitError(f"cannot write: {path}. It is a pipe or a device, not a file. Choose another path.")


def owner_only(path: str, flags: int) -> int:
    """An ``opener`` for :func:`open`: a file that it makes is its owner's alone."""
    return os.open(path, flags, 0o600)


@contextmanager
def new_directory(
    path: Path, *, marker_file: str, workspace: Path | None = None, private: bool = False
) -> Iterator[Path]:
    """Yield an empty directory that becomes ``path`` when the block ends without an error.

    An existing ``path`` is replaced only if it holds ``marker_file`` (it is then our own earlier
    output) or is empty; otherwise :class:`EdgekitError`, before any work. Ctrl-C leaves nothing behind.
    ``workspace``: where it lies meanwhile, on the same file system; by default beside ``path``.
    """
    home = path.resolve()
    beside = workspace or home.parent
    finish_replacement(home, beside)
    if home.exists() and not (home / marker_file).exists() and (not home.is_dir() or any(home.iterdir())):
        raise EdgekitError(f"output exists: {path}. It is not something edgekit wrote. Choose another --out.")
    home.parent.mkdir(parents=True, exist_ok=True)
    sweep(beside, home.parent)
    temporary, descriptor = _create_directory(beside, private)
    try:
        yield temporary
        _sync_tree(temporary)
        _place_directory(temporary, home, beside)
        _sync_directory(home.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


@contextmanager
def scratch_directory(beside: Path | None = None) -> Iterator[Path]:
    """An empty directory for the length of the block, of its owner alone; ``beside`` None: in the system's own place.

    One that a kill left is removed when the next is made there.
    """
    folder = beside or Path(tempfile.gettempdir())
    sweep(folder)
    temporary, descriptor = _create_directory(folder, private=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Give the file ``source`` the second name ``target``, or copy it (and who may read it) where that cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy(source, target)


def finish_replacement(path: Path, beside: Path | None = None) -> None:
    """Put the whole new directory in the place of ``path`` if a kill came between the two steps of its replacement."""
    if not path.exists():
        with suppress(FileNotFoundError):
            os.rename((beside or path.parent) / f"{_NEW}{path.name}", path)


def sweep(folder: Path, home: Path | None = None) -> None:
    """Remove what killed writers left in ``folder``; replacements in ``home`` (``folder`` itself) are completed."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(PREFIX)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for name in sorted(names):  # the new one of a replacement comes before the old one
        target = (home or folder) / name.removeprefix(_NEW).removeprefix(_OLD)
        if name.startswith(_NEW):
            finish_replacement(target, folder)
        elif name.startswith(_OLD) and not target.exists():
            continue
        _remove_abandoned(folder / name)


def _remove_abandoned(path: Path) -> None:
    """Remove ``path`` unless a living process has locked it, or it is somebody else's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # gone, a link, or not ours to open
        return
    try:
        found = os.fstat(descriptor)
        if found.st_uid == os.geteuid() and try_lock(descriptor) and still_named(descriptor, path):
            _remove(path, stat.S_ISDIR(found.st_mode))
    finally:
        os.close(descriptor)


def _remove(path: Path, is_directory: bool) -> None:
    if is_directory:
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _create_directory(folder: Path, private: bool) -> tuple[Path, int]:
    folder.mkdir(parents=True, exist_ok=True)

    def make(new: Path) -> int:
        new.mkdir(0o700 if private else 0o777)
        return os.open(new, os.O_RDONLY)

    return _create(folder, make)


def _create(folder: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """A new name in ``folder``, made and opened by ``make``, and locked before anybody could take it for abandoned."""
    for _ in range(TRIES):
        path = folder / f"{PREFIX}{secrets.token_hex(6)}"
        try:
            descriptor = make(path)
        except FileNotFoundError:
            if folder.is_dir():
                continue  # swept away between the two steps of a directory's making
            raise
        except OSError as error:
            error.filename = str(folder)  # what the user knows
            raise
        if try_lock(descriptor) is not False and still_named(descriptor, path):
            return path, descriptor
        os.close(descriptor)
    raise EdgekitError(f"cannot write in: {folder}. Something removes what is made there. Choose another place.")


def _place_directory(new: Path, path: Path, beside: Path) -> None:
    """Put ``new`` in the place of ``path``; the directory that was there is removed."""
    try:
        os.rename(new, path)  # where there is nothing, or an empty directory
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    if exchange(new, path):
        shutil.rmtree(new, ignore_errors=True)
        return
    whole, old = beside / f"{_NEW}{path.name}", beside / f"{_OLD}{path.name}"
    os.rename(new, whole)
    try:
        os.rename(path, old)
    except OSError:
        os.rename(whole, new)
        raise
    with suppress(FileNotFoundError):  # who opened ``path`` meanwhile has done this step
        os.rename(whole, path)
    shutil.rmtree(old, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                os.fsync(file.fileno())
        _sync_directory(Path(place))


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
