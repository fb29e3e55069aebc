"""Whatever fits the API's own OpenAPI schema, or nearly, is answered or refused in one line: never a 500."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip("schemathesis")

pytestmark = pytest.mark.slow
QUIETLY = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],
    "database": None,
}


def refused_well(status: int, text: str) -> None:
    assert status < 500, text
    if status >= 400 and text:
        message = json.loads(text)["error"]["message"]
        assert "\n" not in message
        assert "Traceback" not in message


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_of_the_schema_or_beside_it_ends_in_a_500(serve: Any, server: Any, mode: str) -> None:
    from schemathesis import GenerationMode

    from edgekit.cloud.openai_client import CallLimits, OpenAICloud

    served = serve(OpenAICloud("m", server.url, "k", limits=CallLimits(retries=0)))
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():

        @given(found.ok().as_strategy(generation_mode=GenerationMode(mode)))
        @settings(max_examples=30, **QUIETLY)
        def ask(case: Any) -> None:
            reply = case.call(timeout=60)
            refused_well(reply.status_code, reply.text if "json" in reply.headers.get("content-type", "") else "")
            seen.setdefault(case.operation.label, set()).add(reply.status_code)

        with suppress(Unsatisfiable):  # nothing can be wrong with a request that has no part
            ask()
    assert seen["POST /v1/chat/completions"] & ({200} if mode == "positive" else {400, 415})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", ""]), "content": st.text() | JSON}
)


def test_no_body_ends_in_a_500(serve: Any) -> None:
    served = serve()
    with httpx2.Client(timeout=60) as http:

        @given(
            st.dictionaries(st.sampled_from(["messages", "stream", "max_tokens", "n", "edgekit"]), JSON)
            | st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=4), "stream": st.booleans()})
        )
        @settings(max_examples=150, **QUIETLY)
        def ask(body: dict[str, Any]) -> None:
            data = json.dumps(body)  # half a surrogate pair goes as an escape
            reply = http.post(
                f"{served.url}/v1/chat/completions", content=data, headers={"Content-Type": "application/json"}
            )
            refused_well(reply.status_code, reply.text if reply.headers["content-type"] == "application/json" else "")

        ask()
