"""Grading rules: equal answers are right, others wrong, and no text makes grading raise, hang or cheat."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.tasks.grading import RULES, choice, exact, fault_of, last_boxed, math, number, reference_answer
from edgekit.tasks.math_judge import MathJudge

FRACTIONS = ("1/2", "0.5", "\\frac{1}{2}", "\\dfrac12", "$\\tfrac{1}{2}$", "\\boxed{\\frac{2}{4}}", " 0.50. ", "2^{-1}")
printable = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)


@pytest.mark.parametrize("answer", FRACTIONS)
@pytest.mark.parametrize("reference", FRACTIONS[:4])
def test_every_way_to_write_a_half_is_a_half(reference: str, answer: str) -> None:
    assert math(reference, answer)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("1000", "1,000"),
        ("10{,}000", "10000"),
        ("18", "\\$18"),
        ("50\\%", "50"),
        ("x^2+1", "1 + x^2"),
        ("3\\sqrt{2}", "\\sqrt{18}"),
        ("\\text{(A)}", "A"),
        ("\\text{east}", "East"),
        ("(1,2)", "\\left( 1, 2 \\right)"),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
        ("x \\in [-2,7]", "[-2,7]"),
        ("2", "x = 2"),
        ("\\{1,2\\}", "2, 1"),
        ("90^\\circ", "90"),
    ],
)
def test_equal_answers_are_right(reference: str, answer: str) -> None:
    assert math(reference, answer)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("1/2", "0.51"),
        ("1/3", "0.333"),
        ("2", ""),
        ("2", "2, 3"),
        ("2", "1 or 2"),
        ("2", "2}\\boxed{3"),
        ("2", "3}\\boxed{2"),
        ("2", "The answer is not 2"),
        ("12", "1 2"),
        ("-3", "3"),
        ("3", "\\pm 3"),
        ("(1,2)", "[1,2]"),
        ("[0,1)", "[0,1]"),
        ("\\text{east}", "seat"),
        ("east", "seat"),
        ("\\text{(A)}", "(B)"),
        ("x^2+1", "x^2"),
        ("5", "five"),
    ],
)
def test_other_answers_are_wrong(reference: str, answer: str) -> None:
    assert not math(reference, answer)


HOSTILE = ("10^{10^{10}}", "(" * 200, "\ud800", "\x00", "\\\\" * 90, "word " * 70)


@pytest.mark.parametrize("answer", HOSTILE)
def test_hostile_text_is_wrong_and_grading_ends(answer: str) -> None:
    assert not math("x+7", answer)


@pytest.mark.parametrize("answer", ["1" + " " * 1_000_000 + "x", "%" * 1_000_000, "1" * 1_000_000])
def test_a_long_reply_is_no_number_and_no_search_without_end(answer: str) -> None:
    assert not number("1", answer)
    assert not math("1", answer)


def test_a_long_reference_is_only_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's long expression reaches the worker, nor the memory of what was asked."""
    monkeypatch.setattr("edgekit.tasks.grading.mathematically_equal", lambda *_: pytest.fail("was asked"))
    reference = " + ".join(["x"] * 300)
    assert math(reference, f"${reference}$")
    assert not math(reference, "300x")


def test_grading_works_in_a_thread_and_after_a_worker_had_to_be_killed() -> None:
    judge = MathJudge()
    found: list[bool] = []

    def work() -> None:
        found.append(judge.equal("x^2+1", "1+x^2"))
        judge.answer_seconds = 0.1
        found.append(judge.equal("7", "\\prod_{k=1}^{100000}(x+k)"))
        judge.answer_seconds = 60
        found.append(judge.equal("2x", "x+x"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=120)
    judge.close()
    assert found == [True, False, True]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(RULES)), st.sampled_from(["7", "B", "\\frac{1}{2}", "x+1"]), printable)
def test_no_text_makes_grading_raise(rule: str, reference: str, answer: str) -> None:
    assert RULES[rule](reference, answer) in (True, False)


@given(st.sampled_from(sorted(RULES)), printable)
def test_a_reference_is_right_under_its_own_rule(rule: str, reference: str) -> None:
    assert fault_of(rule, reference) is not None or RULES[rule](reference, reference)


def test_an_interrupted_question_s_answer_is_not_taken_for_the_next_one_s(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = MathJudge()
    assert judge.equal("x", "x")
    process = judge._process
    assert process is not None
    assert process.stdout is not None
    with monkeypatch.context() as patch:
        patch.setattr(process, "stdout", InterruptedPipe())
        with pytest.raises(KeyboardInterrupt):
            judge.equal("x+1", "1+x")
    assert not judge.equal("x+1", "x+2")
    judge.close()


class InterruptedPipe:
    """A pipe on which Ctrl-C falls while its reader waits."""

    def readline(self) -> str:
        raise KeyboardInterrupt

    def close(self) -> None:
        """Nothing to close."""


@settings(max_examples=60, deadline=None)
@given(st.fractions(), st.integers(0, 10**15))
def test_a_number_is_right_in_every_way_of_writing_it(value: object, whole: int) -> None:
    for rule in (RULES["number"], RULES["math"]):
        assert rule(str(value), f" {value} ")
        assert rule(str(whole), f"{whole:,}")
        assert rule(f"{whole}.0", str(whole))
        assert not rule(str(whole), str(whole + 1))


def test_rules_other_than_math_are_strict() -> None:
    assert exact("San  José", " San José ")
    assert not exact("San José", "san josé")
    assert [number("0.5", text) for text in ("1/2", "50%", "half", "1e-1", "", "1/0", "1,00")] == [True] + [False] * 6
    assert [choice("B", text) for text in ("b", "(B)", "B.", "B. Paris", "A", "AB", "")] == [True] * 3 + [False] * 4


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("so $\\boxed{\\frac{1}{\\sqrt{2}}}$.", "\\frac{1}{\\sqrt{2}}"),
        ("\\boxed{1}, then \\boxed{ \\{1, \\{2\\}\\} }", "\\{1, \\{2\\}\\}"),
        ("\\fbox{7}", "7"),
        ("$\\boxed 9$ it is", "9"),
        ("\\boxed{\\left\\{ x \\right\\}", None),
        ("\\boxed{never closed", None),
        ("\\boxedmatrix{3}", None),
        ("nothing", None),
    ],
)
def test_the_last_box_is_found_with_its_braces_matched(solution: str, answer: str | None) -> None:
    assert last_boxed(solution) == answer


def test_gsm8k_answers_stand_after_the_hashes() -> None:
    assert reference_answer("10*2=<<10*2=20>>20\n#### 1,020") == "1020"
    assert reference_answer("\\boxed{3}\n#### -5 ") == "-5"
    assert reference_answer("####") is None


@given(st.text(max_size=200))
def test_no_text_makes_finding_an_answer_raise(text: str) -> None:
    assert reference_answer(text) is None or reference_answer(text)
    assert last_boxed("\\boxed{" + text) is None or text
