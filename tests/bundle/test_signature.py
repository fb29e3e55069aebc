"""A signed archive: minisign and edgekit make the same bytes of it, and whatever is not signed is refused."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bundle import signature as signing
from edgekit.bundle.archive import pack_archive
from edgekit.bundle.manifest import describe_file
from edgekit.bundle.signature import check_signature, sign_archive, signing_key
from edgekit.cli.app import run_command
from edgekit.cli.pack import PASSWORD_VARIABLE
from edgekit.errors import BackendMissing, BundleError, CheckFailed, EdgekitError

minisign = pytest.importorskip("minisign")
# Made by minisign 0.11: -G -W, then -S -t "edgekit bundle" of the bytes below, then -S -l of the same.
SIGNED = b"the first bytes of an archive"
PUBLIC = "RWTM/jxrM3QYVc6pvJdcF+zec+KD2TuiCip43KayURyOxe4/6GSspShB"
SECRET = (
    "untrusted comment: minisign encrypted secret key\n"
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAzP48azN0GFXem/aiYPMSKNqdi8TDKZYMChIlRIEZ"
    "r7SRxaVafHs3886pvJdcF+zec+KD2TuiCip43KayURyOxe4/6GSspShBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
)
SIGNATURE = (
    "untrusted comment: signature from minisign secret key\n"
    "RUTM/jxrM3QYVZBAqUKLUoug5BYzO4MoeaUJYpWAG5acCzuxwDHDuS1eto5UYjYHk9RFSmicyJJb9OfW8xZhMD77FG43rUfR7A0=\n"
    "trusted comment: edgekit bundle\n"
    "byEbxKm27bTCwrb36ENvexCLtBv7Y9g1xYJ4jZCCN+2pHotHkZ7pUDOYeu/JwlbrmYnPko3GXbz/2W+Ncm48BQ==\n"
)
OLD_SIGNATURE = (
    "untrusted comment: signature from minisign secret key\n"
    "RWTM/jxrM3QYVe+IdK3vw7uCQ7EK3x1yHKPySsrokU+CXAQIChOUJeK4ZCHQQwRh/rMSCuEDhVerK+RDfoRvv3Vn1F4iY/1tKQ8=\n"
    "trusted comment: timestamp:1795734221\tfile:a.zip\n"
    "H/DmBpWtvF0owT/6PHZ10Ua72Z5/mqlp7wDzrdYgxFlicYsPxVpTlDHjJkDSbaJJYGclqnPQqb5uI8VRsh9zCg==\n"
)


def no_password() -> str:
    raise AssertionError("the key has none")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Signed by minisign."""
    (tmp_path / "a.zip").write_bytes(SIGNED)
    (tmp_path / "a.zip.minisig").write_text(SIGNATURE)
    (tmp_path / "my.key").write_text(SECRET)
    (tmp_path / "my.pub").write_text(f"untrusted comment: minisign public key\n{PUBLIC}\n")
    return tmp_path / "a.zip"


def test_a_signature_is_the_one_that_minisign_makes_byte_for_byte(archive: Path) -> None:
    signing.signature_file(archive).unlink()
    with signing_key(archive.with_name("my.key"), no_password) as key:
        assert sign_archive(archive, key).read_text() == SIGNATURE


def test_the_public_key_is_given_as_text_or_as_a_file(archive: Path) -> None:
    check_signature(archive, PUBLIC)
    check_signature(archive, str(archive.with_name("my.pub")))
    for wrong in ("", "minisign.pub", PUBLIC[:-1], PUBLIC.replace("RWT", "RUT"), str(archive)):
        with pytest.raises(EdgekitError, match="no public key") as error:
            check_signature(archive, wrong)
        assert error.value.exit_code == 2


def other_bytes(archive: Path) -> None:
    archive.write_bytes(SIGNED + b".")


def no_signature(archive: Path) -> None:
    signing.signature_file(archive).unlink()


def other_comment(archive: Path) -> None:
    signing.signature_file(archive).write_text(SIGNATURE.replace("edgekit bundle", "edgekit bundla"))


def of_another_file(archive: Path) -> None:
    other = archive.with_name("b.zip")
    other.write_bytes(b"other")
    with signing_key(archive.with_name("my.key"), no_password) as key:
        shutil.move(sign_archive(other, key), signing.signature_file(archive))


def of_another_key(archive: Path) -> None:
    with minisign.KeyPair.generate().secret_key as key:
        sign_archive(archive, key)


def of_the_old_kind(archive: Path) -> None:
    signing.signature_file(archive).write_text(OLD_SIGNATURE)


def no_text(archive: Path) -> None:
    signing.signature_file(archive).write_bytes(b"\xff\n" * 4)


def too_long(archive: Path) -> None:
    signing.signature_file(archive).write_bytes(b"a" * (signing.MOST_BYTES + 1))


def a_folder(archive: Path) -> None:
    archive.unlink()
    archive.mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_bytes, "Another key made the signature, or the archive or the signature has changed"),
        (other_comment, "has changed"),
        (of_another_file, "has changed"),
        (of_another_key, "Another key made the signature"),
        (no_signature, r"not signed: .*a\.zip\.minisig does not lie beside it"),
        (of_the_old_kind, "old kind"),
        (no_text, "is no signature of minisign's"),
        (too_long, "is no signature of minisign's"),
        (a_folder, "no folders"),
    ],
)
def test_whatever_the_key_s_owner_did_not_sign_fails_the_check_in_one_line(
    archive: Path, change: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(archive)
    with pytest.raises(CheckFailed, match=message):
        check_signature(archive, PUBLIC)
    assert run_command(["verify", str(archive), "--signed-by", PUBLIC]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_an_archive_that_is_not_there_is_bad_input(archive: Path) -> None:
    archive.unlink()
    with pytest.raises(BundleError, match="no such bundle"):
        check_signature(archive, PUBLIC)


def test_pack_signs_and_verify_checks_before_it_opens_anything(
    tiny_bundle_folder: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = str(archive.with_name("tiny.zip")), archive.parent
    packed = ["pack", str(tiny_bundle_folder), "--out", out, "--sign", str(folder / "my.key"), "--json"]
    assert run_command(packed) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["signature"] == f"{out}.minisig"
    first = Path(told["signature"]).read_bytes()
    assert run_command(packed) == 0
    assert Path(told["signature"]).read_bytes() == first  # one key gives one bundle one signature
    capsys.readouterr()
    assert run_command(["verify", out, "--signed-by", str(folder / "my.pub"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["outcome"] == "MATCH"
    assert "was signed with the key of" in captured.err
    assert run_command(["verify", str(archive), "--signed-by", PUBLIC]) == 2  # signed, but no bundle
    assert "not a bundle's archive" in capsys.readouterr().err


def test_a_signature_stays_beside_the_very_archive_that_it_is_of_and_no_other(
    tiny_bundle_folder: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, out = Path(shutil.copytree(tiny_bundle_folder, archive.parent / "bundle")), archive.with_name("tiny.zip")
    pack = ["pack", str(bundle), "--out", str(out)]
    assert run_command([*pack, "--sign", str(archive.with_name("my.key"))]) == 0
    assert run_command(pack) == 0  # the same bytes, still signed
    check_signature(out, PUBLIC)
    assert "removed" not in capsys.readouterr().out
    (bundle / "README.md").write_text("another")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["README.md"] = describe_file(bundle / "README.md").model_dump()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert run_command(pack) == 0
    assert "removed: " in capsys.readouterr().out
    with pytest.raises(CheckFailed, match="not signed"):
        check_signature(out, PUBLIC)


def test_a_key_under_a_password_asks_for_it_and_a_key_that_is_none_packs_nothing(
    tiny_bundle_folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = minisign.KeyPair.generate()
    key = pair.secret_key
    key.encrypt("pass word", opslimit=32768, memlimit=2**20)
    locked, out = archive.with_name("locked.key"), archive.with_name("tiny.zip")
    locked.write_bytes(bytes(key) + b"\n")
    command = ["pack", str(tiny_bundle_folder), "--out", str(out), "--sign"]
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for path, password, message in (
        (locked, None, f"Set {PASSWORD_VARIABLE}"),
        (locked, "wrong", "The password does not open it"),
        (archive, None, "no secret key"),
        (archive.with_name("none.key"), None, "no secret key"),
    ):
        monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
        if password is not None:
            monkeypatch.setenv(PASSWORD_VARIABLE, password)
        assert run_command([*command, str(path)]) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()
    monkeypatch.setenv(PASSWORD_VARIABLE, "pass word")
    assert run_command([*command, str(locked)]) == 0
    check_signature(out, pair.public_key.to_base64().decode())


def test_without_the_library_it_says_how_to_get_it(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minisign", None)
    with pytest.raises(BackendMissing, match=r"pip install '\.\[sign\]'"):
        check_signature(archive, PUBLIC)


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_minisign_itself_checks_what_pack_signs(tiny_bundle_folder: Path, archive: Path) -> None:
    packed = pack_archive(tiny_bundle_folder, archive.with_name("tiny.zip"))
    with signing_key(archive.with_name("my.key"), no_password) as key:
        sign_archive(packed, key)
    subprocess.run(["minisign", "-Vm", str(packed), "-P", PUBLIC], check=True)
