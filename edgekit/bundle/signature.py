"""Who made a bundle's archive: a signature of its bytes in minisign's format, which minisign itself checks too.

The keys are minisign's own (``minisign -G``); the signature lies beside the archive, in a file of its name and
:data:`SUFFIX`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgekit.atomic_write import write_file
from edgekit.errors import BackendMissing, BundleError, CheckFailed, EdgekitError, ErrorKind, install_hint
from edgekit.plain_file import open_plain, read_bytes

if TYPE_CHECKING:
    from minisign import PublicKey, SecretKey

SUFFIX: Final = ".minisig"
MOST_BYTES: Final = 2**14
"""Of a key or a signature: minisign's comments have up to 8,192."""
TRUSTED_COMMENT: Final = "edgekit bundle"
"""Signed along. It holds no time, so that one key gives one bundle one signature."""


def signature_file(archive: Path) -> Path:
    """Where the signature of ``archive`` lies."""
    return archive.with_name(archive.name + SUFFIX)


@contextmanager
def signing_key(path: Path, password: Callable[[], str]) -> Iterator[SecretKey]:
    """minisign's secret key in the file ``path``, wiped from memory when the block is left.

    ``password`` is asked if the key is kept under one. Raises :class:`EdgekitError` if it cannot be used, and
    BackendMissing without the library.
    """
    minisign = _minisign()
    try:
        key = minisign.SecretKey.from_bytes(read_bytes(path, MOST_BYTES))
    except (OSError, ValueError) as error:
        raise EdgekitError(f"no secret key: {path}. {_reason(error)}. Make one: minisign -G -s {path}.") from None
    with key:
        if key.is_encrypted():
            try:
                key.decrypt(password())
            except minisign.Error:
                raise EdgekitError(f"cannot sign: {path}. The password does not open it. Try again.") from None
        yield key


def sign_archive(archive: Path, key: SecretKey) -> Path:
    """Sign ``archive`` with ``key``; returns the signature's file, an earlier one replaced."""
    with open_plain(archive) as file:
        signature = key.sign(file, trusted_comment=TRUSTED_COMMENT)
    write_file(signature_file(archive), bytes(signature) + b"\n")
    return signature_file(archive)


def check_signature(archive: Path, signed_by: str) -> None:
    """Check that the owner of a public key signed ``archive``; ``signed_by`` is its text, or a file of minisign's.

    Raises :class:`CheckFailed` unless so: no signature, one of another key or of other bytes, or none at all.
    EdgekitError if ``signed_by`` is no public key, BundleError if there is no ``archive``, and BackendMissing without
    the library.
    """
    minisign = _minisign()
    key = _public_key(signed_by)
    path = signature_file(archive)
    if archive.is_dir():
        raise CheckFailed(f"not signed: {archive}. Only archives are signed, no folders. Check the one you received.")
    if not archive.exists():
        raise BundleError(f"no such bundle: {archive}. Nothing is there. Check the path.", ErrorKind.ABSENT)
    if not path.exists():
        raise CheckFailed(f"not signed: {archive}. {path.name} does not lie beside it. Ask for it where it comes from.")
    try:
        signature = minisign.Signature.from_bytes(read_bytes(path, MOST_BYTES))
    except (OSError, ValueError) as error:
        raise _wrong(archive, f"{path.name} is no signature of minisign's ({_reason(error)})") from None
    if not signature.is_prehashed():
        raise _wrong(archive, f"{path.name} is of minisign's old kind, which signs no hash")
    try:
        with open_plain(archive) as file:
            key.verify(file, signature)
    except minisign.VerifyError:
        raise _wrong(archive, "Another key made the signature, or the archive or the signature has changed") from None


def _wrong(archive: Path, why: str) -> CheckFailed:
    return CheckFailed(f"wrong signature: {archive}. {why}. Do not use it; ask for it where it comes from.")


def _public_key(given: str) -> PublicKey:
    minisign = _minisign()
    try:
        if Path(given).is_file():
            return minisign.PublicKey.from_bytes(read_bytes(Path(given), MOST_BYTES))
        return minisign.PublicKey.from_base64(given)
    except (OSError, ValueError) as error:
        why = f"It is neither a file of minisign's nor the key itself ({_reason(error)})"
        raise EdgekitError(f"no public key: {given}. {why}. Give minisign.pub, or the text in it.") from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _minisign() -> Any:
    try:
        import minisign
    except ImportError:
        what = "Signatures need the library py-minisign"
        raise BackendMissing(f"cannot sign or check: minisign. {what}. {install_hint('sign')}.") from None
    return minisign
