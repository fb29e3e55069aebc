"""A cloud behind any OpenAI-compatible chat server."""

from __future__ import annotations

from edgekit.errors import EdgekitError
from edgekit.tasks.base import Problem

INSTRUCTION = "Solve the task. End with your final answer alone between <answer> and </answer>."
OPEN, CLOSE = "<answer>", "</answer>"


class OpenAICloud:
    """Asks ``model`` at ``base_url``; one retry, and errors that never show the key."""

    def __init__(self, model: str, base_url: str, api_key: str, *, timeout: float = 30.0) -> None:
        import openai

        self.model = model
        self.base_url = base_url
        self.name = f"openai:{model}"
        self._key = api_key
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=1)

    def answer(self, problem: Problem) -> str:
        """The text between the last answer delimiters of the reply, or the whole reply if there are none.

        Raises :class:`EdgekitError` if the server cannot be reached, fails, or sends no text.
        """
        import openai

        messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": problem.prompt}]
        try:
            reply = self._client.chat.completions.create(model=self.model, messages=messages)  # type: ignore[arg-type]
            text = reply.choices[0].message.content
        except openai.APITimeoutError:
            raise self._failure("it did not answer in time") from None
        except openai.APIStatusError as error:
            raise self._failure(f"it answered with status {error.status_code}") from None
        except openai.APIConnectionError:
            raise self._failure("it cannot be reached") from None
        except (openai.OpenAIError, AttributeError, IndexError, TypeError, ValueError) as error:
            raise self._failure(f"its reply cannot be read ({type(error).__name__})") from None
        if not isinstance(text, str) or not text.strip():
            raise self._failure("its reply holds no text")
        return final_answer(text)

    def _failure(self, why: str) -> EdgekitError:
        line = f"cloud failed: {self.model} at {self.base_url}. {why}. Check the address, the model's name and the key."
        return EdgekitError(line.replace(self._key, "***") if self._key else line)


def final_answer(text: str) -> str:
    """What stands between the last ``<answer>`` and its ``</answer>``; without them, all of ``text``."""
    _, opened, rest = text.rpartition(OPEN)
    return (rest.partition(CLOSE)[0] if opened else text).strip()
