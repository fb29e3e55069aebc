"""The rules by which an answer is held against a reference answer: exact, number, choice, math.

The reference itself is right under every rule. An answer that is no answer is wrong and never an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from edgekit.tasks.math_judge import mathematically_equal

MAX_CHARACTERS = 400
MAX_BRACKETS = 60
_NUMBER = re.compile(r"([-+]?)\s*\$?\s*([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,40})?(\.[0-9]{1,40})?\s*", re.ASCII)
_QUOTIENT = re.compile(r"([-+]?)\s*(?:([0-9]{1,40})\s*/\s*([0-9]{1,40})|\\[dt]?frac\{([0-9]{1,40})\}\{([0-9]{1,40})\})")
_NUMBER_IN_PROSE = re.compile(r"[-+]?\$?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:/[0-9]+)?%?", re.ASCII)
_CHOICE_IN_PROSE = re.compile(r"(?<![^\W_])\(?[A-HJ-Z]\)?(?![^\W_]|')", re.ASCII)
SHORT_ANSWER = 3
"""A reply of so few words is an answer, not prose around one."""
_CHOICE = re.compile(r"\(?\s*([A-Za-z])\s*\)?[.:]?")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mbox|mathrm)\s*\{([^{}\\]*)\}")
_WORDS = re.compile(r"[^\W\d_]{3,}(?:[ '-]+[^\W\d_]+)*")
_COMMANDS = re.compile(r"\\(?:begin|end|text\w*|mbox|mathrm|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+")
_PROSE = re.compile(r"[^\W\d_]{4,}")
_MATH_WORDS = {"sqrt", "cbrt", "frac", "infty", "infinity", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan"}
_WRAPPINGS = (("\\boxed{", "}"), ("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"))


def exact(reference: str, answer: str) -> bool:
    """The same text but for white space around and between words."""
    return answer.split() == reference.split()


def number(reference: str, answer: str) -> bool:
    """The same number, exactly: ``0.5``, ``1/2``, ``1,000``, ``$18``, ``50%`` (read as 50)."""
    value = number_of(reference)
    return value is not None and number_of(answer) == value


def choice(reference: str, answer: str) -> bool:
    """The same letter: ``B``, ``b``, ``(B)``, ``B.``."""
    letter = choice_of(reference)
    return letter is not None and choice_of(answer) == letter


def math(reference: str, answer: str) -> bool:
    """The same mathematical value or object, in LaTeX or plain, as math-verify sees it; words must be the same."""
    reference, answer = _bare(reference), _bare(answer)
    if _close(answer) == _close(reference):
        return True
    if not answer or len(answer) > MAX_CHARACTERS or len(re.findall(r"[(\[{]", answer)) > MAX_BRACKETS:
        return False
    if len(reference) > MAX_CHARACTERS:  # only the same text will do: it is not for sympy, nor to be remembered
        return False
    if not _balanced(answer):
        return False
    first, second = number_of(reference), number_of(answer)
    if first is not None and second is not None:
        return first == second
    words = _TEXT.fullmatch(reference)
    if words is not None or _WORDS.fullmatch(reference):
        return _plain_words(answer) == _plain_words(reference)  # as a product of letters, "east" would equal "seat"
    if _prose(answer) - _prose(reference):
        return False  # sympy would multiply the letters for seconds
    return mathematically_equal(reference, answer)


RULES: dict[str, Callable[[str, str], bool]] = {"exact": exact, "number": number, "choice": choice, "math": math}


def fault_of(rule: str, reference: str) -> str | None:
    """Why ``reference`` cannot be graded by ``rule``, or None."""
    if not reference.strip():
        return "it is empty"
    if rule == "number" and number_of(reference) is None:
        return "it is not a number"
    if rule == "choice" and choice_of(reference) is None:
        return "it is not one letter"
    return None


def number_of(text: str) -> Fraction | None:
    """The number ``text`` writes, exactly, or None."""
    text = text.strip()
    if len(text) > MAX_CHARACTERS:  # before anything looks through it, for that may take its length squared
        return None
    text = re.sub(r"\s*\\?%$", "", text).replace("\\$", "$").replace("{,}", ",")
    quotient = _QUOTIENT.fullmatch(text)
    if quotient is not None:
        above, below = quotient[2] or quotient[4], quotient[3] or quotient[5]
        return None if int(below) == 0 else Fraction(int(quotient[1] + above), int(below))
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return None
    return Fraction(f"{match[1]}{(match[2] or '0').replace(',', '')}{match[3] or ''}")


def choice_of(text: str) -> str | None:
    """The letter ``text`` chooses, as a capital, or None."""
    match = _CHOICE.fullmatch(text.strip())
    return None if match is None else match[1].upper()


def answer_in_prose(text: str, rule: str | None) -> str:
    """What a reply without delimiters answers: its last box, else its last number or letter, as ``rule`` asks.

    All of ``text`` where the rule asks for neither, or nothing of the kind is in it.
    """
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    pattern = {"number": _NUMBER_IN_PROSE, "math": _NUMBER_IN_PROSE, "choice": _CHOICE_IN_PROSE}.get(rule or "")
    found = [] if pattern is None else [match[0] for match in pattern.finditer(text)]
    is_answer_itself = rule == "math" and len(text.split()) <= SHORT_ANSWER
    return found[-1].strip() if found and not is_answer_itself else text.strip()


def reference_answer(text: str) -> str | None:
    """The final answer of a worked solution: what follows ``####``, or the last ``\\boxed{}``; None without either."""
    _, marked, after = text.rpartition("####")
    if marked:
        return after.strip().replace(",", "") or None
    return last_boxed(text)


def last_boxed(text: str) -> str | None:
    """What the last ``\\boxed`` or ``\\fbox`` holds, braces inside it matched; None if there is none."""
    starts = list(re.finditer(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*", text))
    if not starts:
        return None
    rest = text[starts[-1].end() :]
    if not rest.startswith("{"):
        return re.split(r"[\s$]", rest, maxsplit=1)[0].rstrip(".,") or None
    depth, escaped = 0, False
    for position, character in enumerate(rest):
        if not escaped and character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return rest[1:position].strip() or None
        escaped = character == "\\" and not escaped
    return None


def _bare(text: str) -> str:
    """``text`` without what may stand around an answer: dollars, a box, a full stop, thin spaces, \\left, \\right."""
    text = re.sub(r"(?<!\\)\\[,!;: ]|\\left(?![a-z])|\\right(?![a-z])|~", "", text).strip()
    text = re.sub(r"\\[dt]frac", r"\\frac", text).removesuffix(".").strip()
    for _ in range(3):  # a box inside dollars inside a text is as deep as it gets
        for opening, closing in _WRAPPINGS:
            inner = text[len(opening) : len(text) - len(closing)]
            wraps = len(text) >= len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing)
            if wraps and _balanced(inner) and "$" not in inner:
                text = inner.strip()
    return text


def _close(text: str) -> str:
    """``text`` without the white space that separates nothing."""
    return re.sub(r"(?<!\w) | (?!\w)", "", " ".join(text.split()))


def _balanced(text: str) -> bool:
    """Whether every brace is closed, and none before it was opened."""
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def _prose(text: str) -> set[str]:
    """The words of ``text`` that are no mathematics."""
    return set(_PROSE.findall(_COMMANDS.sub(" ", text).casefold())) - _MATH_WORDS


def _plain_words(text: str) -> str:
    match = _TEXT.fullmatch(text)
    words = " ".join((match[1] if match is not None else text).split()).casefold().rstrip(".")
    return words[1:-1] if re.fullmatch(r"\(\w\)", words) else words
