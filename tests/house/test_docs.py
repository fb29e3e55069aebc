"""Pages a reader can reach, and links that lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from edgekit.cli.app import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted({*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("*_demo/*.md"), *ROOT.glob("*/README.md")})
GUIDES = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Those that say how things are now: a changelog names commands as they were."""
VERBS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
}
"""The options of each command."""
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"|\{\s*#([\w-]+)\s*\}")


def links(page: Path) -> list[str]:
    """Targets of the page's links inside the repository."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [target for target in _LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """What a link to a place of the page may name."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    written = {first or second for first, second in _ANCHOR.findall(text)}
    slugs = set()
    for heading in _HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"\{\s*#[\w-]+\s*\}", "", heading))
        slugs.add(re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-"))
    return written | slugs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def test_every_page_is_reached_from_the_index() -> None:
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
    assert {page.relative_to(DOCS).as_posix() for page in set(DOCS.rglob("*.md")) - reached} == set()


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each ``edgekit VERB`` in the code of ``page``, with the options after it."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    fenced = "\n".join(block for language, block in blocks if language in ("", "bash", "sh"))
    prose = _FENCE.sub("", text)
    indented = "\n".join(re.findall(r"^ {4}(.*)", prose, re.MULTILINE))
    spans = "\n".join(" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))
    for line in "\n".join((fenced, indented, spans)).splitlines():
        typed = re.match(r"(?:\S*[=/]\S* )*(?:\.venv/bin/|-m )?edgekit ([a-z][a-z-]*)\b([^#|;&]*)", line.strip())
        if typed:
            yield typed[1], re.findall(r"(?<![\w-])--[a-z][a-z-]*", typed[2])


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    wrong = [
        (verb, options)
        for verb, options in commands(page)
        if verb not in VERBS or not set(options) <= VERBS[verb] | {"--help"}
    ]
    assert not wrong


def test_commands_are_found_where_pages_have_them() -> None:
    found = [verb for page in GUIDES for verb, _ in commands(page)]
    assert len(found) > 80
    assert set(found) >= set(VERBS) - {"cache", "quantize", "warm-start"}


def test_contributing_names_every_room_and_file_of_the_package() -> None:
    house = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    package = ROOT / "edgekit"
    rooms = [f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()]
    assert [room for room in rooms if f"\n  {room} " not in house] == []
    files = [path.stem for path in package.glob("*.py") if path.stem != "__main__"]
    assert [file for file in files if not re.search(rf"\b{file}\b", house)] == []


@pytest.mark.slow
def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert (tmp_path / "site" / "index.html").is_file()
