"""Those who talk to a server under test: the official client, and the cloud behind it."""

from __future__ import annotations

from typing import Any

import openai

from edgekit.cloud.openai_client import CallLimits, OpenAICloud


def cloud_at(server: Any, **limits: float) -> OpenAICloud:
    return OpenAICloud("m", server.url, "sk-secret", limits=CallLimits(**{"seconds": 20.0, "retries": 0, **limits}))


def client_of(served: Any, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0)


def one(prompt: str) -> list[Any]:
    return [{"role": "user", "content": prompt}]
