"""A conversation with a session: what was said goes along, where the policy reads several turns."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.cloud.request import Message
from edgekit.hybrid.events import Event, HybridAnswer
from edgekit.hybrid.session import HybridSession


class Conversation:
    """Asks ``session`` one thing after another; a policy without a chat template is asked each by itself."""

    def __init__(self, session: HybridSession) -> None:
        self.session = session
        self.messages: list[Message] = []

    @property
    def remembers(self) -> bool:
        """Whether the policy reads what was said before."""
        return self.session.device.encode_turns is not None

    def say(self, text: str, on_event: Callable[[Event], None] | None = None) -> HybridAnswer:
        """The answer to ``text``. Raises what :meth:`HybridSession.ask` raises; what failed is not remembered."""
        asked = Message("user", text)
        answer = self.session.ask([*self.messages, asked], on_event=on_event)
        if self.remembers and answer.text.strip():
            self.messages += [asked, Message("assistant", answer.text)]
        return answer

    def begin_anew(self) -> None:
        """Forget what was said."""
        self.messages.clear()
