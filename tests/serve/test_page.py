"""The page, used in a real browser: ask, watch, hand off, consent, stop; and nothing but this server is asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.cloud.openai_client import CallLimits, OpenAICloud
from edgekit.cloud.request import Message
from edgekit.hybrid.audit import AuditLog
from edgekit.hybrid.budget import Budget, parse_limits
from edgekit.hybrid.device import Device
from edgekit.hybrid.redaction import Redactor
from edgekit.hybrid.session import HandOffRules

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
SAID = "Thinking <answer>1</answer>, no: <answer> 3 * 7 </answer> done"
HOSTILE = "<img src=x onerror=document.title='owned'> <b>bold</b>"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def prompts(device: Device, tiny_prompts: list[str]) -> dict[bool, str]:
    return {device.decide(device.prompt_ids([Message("user", prompt)])).called: prompt for prompt in tiny_prompts}


def cloud_at(server: Any) -> OpenAICloud:
    return OpenAICloud("m", server.url, "sk-secret", limits=CallLimits(seconds=20.0, retries=0))


def open_page(browser: Any, served: Any, **context: Any) -> Any:
    page = browser.new_context(**context).new_page()
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.set_default_timeout(WAIT_MS)
    page.goto(served.url)
    return page


def ask(page: Any, prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.press("#prompt", "Tab")
    page.keyboard.press("Enter")  # the button has the focus: no mouse is needed


def shows(page: Any, where: str, text: str) -> None:
    sync_api.expect(page.locator(where)).to_contain_text(text, timeout=WAIT_MS)


def outcome(page: Any, text: str) -> None:
    shows(page, "#outcome", text)


def slide(page: Any, bias: float) -> None:
    set_value = "b => { const s = document.getElementById('bias'); s.value = b; s.dispatchEvent(new Event('input')) }"
    page.evaluate(set_value, bias)


def test_a_kept_prompt_and_a_handed_off_one_are_seen_with_who_wrote_what(
    browser: Any, serve: Any, server: Any, prompts: dict[bool, str], tmp_path: Path
) -> None:
    budget = Budget(tmp_path / "b", parse_limits(["1/day"]))
    rules = HandOffRules(budget=budget, audit=AuditLog(tmp_path / "log"), redactor=Redactor())
    served = serve(cloud_at(server), rules)
    page = open_page(browser, served)
    ask(page, prompts[False])
    outcome(page, "The device ended without an answer")
    assert page.is_hidden("#cloudbox")
    ask(page, prompts[True])
    outcome(page, "The policy called for the cloud")
    assert page.inner_text("#cloud") == SAID
    assert "Handed off to m" in page.inner_text("#handoff")
    shows(page, "#budget", "0 left of 1/day")
    shows(page, "#log tbody", prompts[True])
    ask(page, prompts[True])
    outcome(page, "the budget is spent")
    assert all(url.startswith(served.url) for url in page.asked)
    page.screenshot(path=str(tmp_path / "page.png"), full_page=True)


@pytest.mark.parametrize("says", ["#allow", "#refuse"])
def test_consent_shows_what_leaves_and_is_kept(
    browser: Any, serve: Any, server: Any, prompts: dict[bool, str], says: str
) -> None:
    page = open_page(browser, serve(cloud_at(server), HandOffRules(consent="ask")))
    ask(page, prompts[True])
    page.wait_for_selector("#consent:not([hidden])")
    assert prompts[True] in page.inner_text("#consent-text")
    assert not server.seen
    assert page.evaluate("document.activeElement.id") == "refuse"
    page.click(says)
    outcome(page, "called for the cloud" if says == "#allow" else "the prompt stayed here")
    assert len(server.seen) == (says == "#allow")


def test_a_cloud_that_fails_and_no_cloud_are_told_in_words(
    browser: Any, serve: Any, server: Any, prompts: dict[bool, str]
) -> None:
    server.modes = ["status:500"]
    page = open_page(browser, serve(cloud_at(server)))
    ask(page, prompts[True])
    outcome(page, "no cloud answered")
    assert "status 500" in page.inner_text("#handoff")
    offline = open_page(browser, serve(None))
    shows(offline, "#where", "no cloud")
    ask(offline, prompts[True])
    outcome(offline, "no cloud answered")


def test_markup_in_a_prompt_or_a_log_is_text(browser: Any, serve: Any, server: Any, tmp_path: Path) -> None:
    served = serve(cloud_at(server), HandOffRules(audit=AuditLog(tmp_path / "log")))
    page = open_page(browser, served)
    ask(page, HOSTILE + "1 " * 3_000)
    outcome(page, "too long")
    shows(page, "#log tbody", "onerror")
    assert page.title() == "edgekit"
    assert page.query_selector("#log img, #log b, #device img") is None


def test_it_is_whole_on_a_narrow_and_a_dark_screen(
    browser: Any, serve: Any, server: Any, prompts: dict[bool, str]
) -> None:
    narrow = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    page = open_page(browser, serve(cloud_at(server)), **narrow)
    ask(page, prompts[True])
    outcome(page, "called for the cloud")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    named = "e => e.labels?.length || e.innerText"
    every = "[...document.querySelectorAll('input,textarea,button')]"
    assert page.evaluate(f"{every}.every({named})")


def test_the_slider_says_what_a_bias_would_hand_over(browser: Any, serve: Any) -> None:
    cases = [
        {"prompt": "1 2 -> 3", "margin": -1.0, "called": False, "right": True},
        {"prompt": "4 5 -> 9", "margin": 2.0, "called": True, "right": False},
        {"prompt": "6 7 -> 1", "margin": -5.0, "called": False, "right": False},
    ]
    page = open_page(browser, serve(None, cases=lambda: cases))
    page.wait_for_selector("#slide:not([hidden])")
    slide(page, 0)
    shows(page, "#slide-says", "1 of 3")
    shows(page, "#slide-says", "66.7 %")
    slide(page, 6)
    shows(page, "#slide-says", "3 of 3")
    shows(page, "#slide-says", "100.0 %")
