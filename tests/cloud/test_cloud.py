"""Clouds: the oracle's fixed mistakes, and a real HTTP server that behaves, fails, stalls, drips or floods."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edgekit.cloud.breaker import Breaker
from edgekit.cloud.choose import parse_cloud
from edgekit.cloud.openai_client import CallLimits, OpenAICloud, final_answer
from edgekit.cloud.oracle import OracleCloud
from edgekit.cloud.request import CloudError, Message, Price, Usage
from edgekit.errors import EdgekitError
from edgekit.rollout.server import server_address
from edgekit.tasks import get_task

TASK = get_task("countdown")
PROBLEMS = TASK.problems("test", 200, 0)
KEY = "sk-very-secret"
SAID = "Thinking <answer>1</answer>, no: <answer> 3 * 7 </answer> done"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.cloud.openai_client.FIRST_DELAY_S", 0.01)


def cloud_at(server: Any, **limits: float) -> OpenAICloud:
    return OpenAICloud("m", server.url, KEY, limits=CallLimits(**{"seconds": 20.0, **limits}))


def streamed(cloud: OpenAICloud, text: str = "hello") -> str:
    return "".join(cloud.send(cloud.request((Message("user", text),))))


def asked(cloud: OpenAICloud, how: str) -> str:
    return cloud.answer(PROBLEMS[0]) if how == "whole" else streamed(cloud)


def test_the_reply_s_last_answer_is_taken_and_the_prompt_and_key_are_sent(server: Any) -> None:
    assert cloud_at(server).answer(PROBLEMS[0]) == "3 * 7"
    request = server.seen[0]
    assert request["messages"][-1]["content"] == PROBLEMS[0].prompt
    assert request["key"] == f"Bearer {KEY}"


def test_a_streamed_reply_comes_in_pieces_and_says_what_it_used(server: Any) -> None:
    cloud = cloud_at(server)
    request = cloud.request((Message("user", "hello"),))
    reply = cloud.send(request)
    assert not server.seen  # nothing leaves before the reply is wanted
    pieces = list(reply)
    assert "".join(pieces) == SAID
    assert len(pieces) > 3
    assert reply.usage == Usage(20, 10)
    assert Price(1.0, 2.0).of(reply.usage) == pytest.approx(40e-6)
    assert {key: server.seen[0][key] for key in request.body()} == request.body()


@pytest.mark.parametrize("how", ["whole", "stream"])
@pytest.mark.parametrize(
    ("mode", "says", "why"),
    [
        ("status:401", "status 401", "key"),
        ("status:403", "status 403", "key"),
        ("status:404", "status 404", "status"),
        ("html", "(cannot be read|no text)", "reply"),
        ("torn", "(cannot be read|no text)", "reply"),
        ("no choices", "(cannot be read|no text)", "reply"),
        ("null choices", "(cannot be read|no text)", "reply"),
        ("error body", "(cannot be read|no text)", "reply"),
        ("a number", "(cannot be read|no text)", "reply"),
        ("nested", "(cannot be read|no text)", "reply"),
        ("tool", "call a tool", "reply"),
        ("gzip", "compressed", "reply"),
        ("large", "larger than", "reply"),
        ("redirect:http://127.0.0.1:9/v1", "sends elsewhere", "address"),
    ],
)
def test_what_a_retry_cannot_mend_is_one_line_after_one_request(
    server: Any, how: str, mode: str, says: str, why: str
) -> None:
    server.modes = [mode]
    with pytest.raises(CloudError, match=says) as error:
        asked(cloud_at(server, max_bytes=2_000_000), how)
    assert error.value.why == why
    assert KEY not in str(error.value)
    assert "\n" not in str(error.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize("how", ["whole", "stream"])
@pytest.mark.parametrize("mode", ["status:429", "status:500", "status:503", "drop"])
def test_what_may_pass_is_tried_again(server: Any, how: str, mode: str) -> None:
    server.modes = [mode, mode, "good"]
    assert asked(cloud_at(server), how) in ("3 * 7", SAID)
    assert len(server.seen) == 3
    server.modes, server.seen = [mode], []
    with pytest.raises(CloudError):
        asked(cloud_at(server), how)
    assert len(server.seen) == 3


def test_a_server_that_says_how_long_to_wait_is_heeded(server: Any) -> None:
    server.modes = ["status:429,1", "good"]
    assert cloud_at(server).answer(PROBLEMS[0]) == "3 * 7"
    assert server.seen[1]["at"] - server.seen[0]["at"] >= 1.0


def test_a_wait_longer_than_the_call_may_take_is_not_begun(server: Any) -> None:
    server.modes = ["status:429,3600", "good"]
    with pytest.raises(CloudError, match="status 429") as error:
        cloud_at(server, seconds=2.0).answer(PROBLEMS[0])
    assert (error.value.why, len(server.seen)) == ("limit", 1)


@pytest.mark.parametrize("how", ["whole", "stream"])
@pytest.mark.parametrize("mode", ["hang", "drip headers", "drip body"])
def test_a_call_ends_in_the_time_it_says(server: Any, how: str, mode: str) -> None:
    server.modes = [mode]
    begin = time.monotonic()
    with pytest.raises(CloudError, match="in time") as error:
        asked(cloud_at(server, seconds=0.6), how)
    assert error.value.why == "time"
    assert time.monotonic() - begin > 0.5
    assert len(server.seen) == 1


def test_a_stream_that_breaks_off_is_no_answer_and_is_not_sent_again(server: Any) -> None:
    server.modes = ["torn stream"]
    cloud, got = cloud_at(server), []
    reply = cloud.send(cloud.request((Message("user", "hello"),)))
    with pytest.raises(CloudError, match="broke off"):
        got.extend(reply)
    assert got
    assert len(server.seen) == 1


def test_no_server_is_one_line_and_nothing_left_the_device() -> None:
    with pytest.raises(CloudError, match="cannot be reached") as error:
        OpenAICloud("m", "http://127.0.0.1:9/v1", KEY, limits=CallLimits(seconds=3)).answer(PROBLEMS[0])
    assert not error.value.left_device


def test_an_address_with_credentials_is_refused_and_not_repeated() -> None:
    with pytest.raises(EdgekitError, match="holds credentials") as error:
        OpenAICloud("m", "http://me:hunter2@127.0.0.1:9/v1", KEY)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("http://[::1", "is none"), ("http://127.0.0.1:abc/v1", "is none"), ("http://127.0.0.1:99999/v1", "is none"),
        ("http://127.0.0.1:0/v1", "is none"), ("http:///v1", "is none"), ("https://", "is none"),
        ("http://x\u202ey/v1", "holds a character"), ("http://a\nb/v1", "holds a character"),
        ("http://a b", "holds a character"),
        ("http://\ud800/v1", "holds a character"), ("http://me:hunter2@h/v1", "holds credentials"),
        ("http://h/v1?key=hunter2", "has a query"), ("http://h/v1#hunter2", "has a query"),
        ("http://h/" + "x" * 2000, "has 2,009 characters"), ("http://me:hunter2@[", "is none"),
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_one_line_and_not_repeated(address: str, fault: str) -> None:
    with pytest.raises(EdgekitError, match=rf"^bad cloud: m\. The address {fault}") as error:
        parse_cloud(f"openai:m@{address}", TASK, {"OPENAI_API_KEY": "k"})
    with pytest.raises(ValueError, match=fault) as refused:
        server_address(f"vllm:m@{address}")
    for told in (str(error.value), str(refused.value)):
        assert "hunter2" not in told
        assert "\n" not in told
    with pytest.raises(EdgekitError) as error:
        parse_cloud("openai:@http://me:hunter2@h", TASK, {})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("key", ["sk-hunter\u00e9", "sk-hunter\nX: y", "sk-hunter\n"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(EdgekitError, match="no HTTP header takes") as error:
        OpenAICloud("m", "http://127.0.0.1:9/v1", key)
    assert "hunter" not in str(error.value)


def test_only_so_many_calls_are_under_way_at_a_time(server: Any) -> None:
    server.modes = ["slow:0.1"]
    cloud = cloud_at(server, at_once=2)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(cloud.answer, PROBLEMS[:8])) == {"3 * 7"}
    assert server.most_at_once <= 2


def test_a_server_that_keeps_failing_is_left_alone_and_tried_again_later(server: Any) -> None:
    server.modes = ["status:500"]
    cloud = cloud_at(server, retries=0)
    now = [0.0]
    cloud._breaker = Breaker(failures=2, cool_s=20.0, clock=lambda: now[0])
    for _ in range(2):
        with pytest.raises(CloudError, match="status 500"):
            cloud.answer(PROBLEMS[0])
    with pytest.raises(CloudError, match="left alone") as error:
        cloud.answer(PROBLEMS[0])
    assert (error.value.why, error.value.left_device, len(server.seen)) == ("closed", False, 2)
    now[0], server.modes = 21.0, ["good"]
    assert cloud.answer(PROBLEMS[0]) == "3 * 7"
    assert cloud.answer(PROBLEMS[0]) == "3 * 7"


def test_a_wrong_key_does_not_count_as_an_overloaded_server(server: Any) -> None:
    server.modes = ["status:401"]
    cloud = cloud_at(server)
    for _ in range(8):
        with pytest.raises(CloudError, match="401"):
            cloud.answer(PROBLEMS[0])
    assert len(server.seen) == 8


def test_equal_requests_have_one_name_and_another_word_or_server_another(server: Any) -> None:
    cloud, other = cloud_at(server), OpenAICloud("m2", server.url, KEY)
    request = cloud.request((Message("user", "a"),))
    assert request.digest() == cloud.request((Message("user", "a"),)).digest()
    assert request.digest() != cloud.request((Message("user", "b"),)).digest()
    assert request.digest() != other.request((Message("user", "a"),)).digest()


def test_text_without_delimiters_is_the_answer_itself() -> None:
    assert final_answer(" 3 * 7\n") == "3 * 7"
    assert final_answer("a <answer>4") == "4"


def test_the_oracle_is_right_always_or_wrong_on_the_same_share_every_time() -> None:
    assert all(TASK.grade(p, OracleCloud(TASK).answer(p)) for p in PROBLEMS)
    first, second = ([TASK.grade(p, OracleCloud(TASK, 0.8).answer(p)) for p in PROBLEMS] for _ in range(2))
    assert first == second
    assert 0.7 < sum(first) / len(first) < 0.9
    assert first != [TASK.grade(p, OracleCloud(TASK, 0.8, seed=1).answer(p)) for p in PROBLEMS]


def test_clouds_are_named_as_on_the_command_line() -> None:
    assert parse_cloud("none", TASK, {}) is None
    assert parse_cloud("oracle", TASK, {}).accuracy == 1.0
    assert parse_cloud("oracle:0.9", TASK, {}).accuracy == 0.9
    cloud = parse_cloud("openai:org/m@http://127.0.0.1:1/v1", TASK, {"EDGEKIT_CLOUD_API_KEY": KEY})
    assert (cloud.model, cloud.base_url, cloud._key) == ("org/m", "http://127.0.0.1:1/v1", KEY)


@pytest.mark.parametrize(
    ("url", "environ", "key"),
    [
        ("https://api.openai.com/v1", {"OPENAI_API_KEY": "theirs"}, "theirs"),
        ("https://api.openai.com/v1", {"OPENAI_API_KEY": "theirs", "EDGEKIT_CLOUD_API_KEY": "ours"}, "ours"),
        ("https://api.openai.com.example.org/v1", {"OPENAI_API_KEY": "theirs"}, "none"),
        ("http://127.0.0.1:1/v1", {"OPENAI_API_KEY": "theirs"}, "none"),
    ],
)
def test_another_provider_s_key_goes_only_to_that_provider(url: str, environ: dict[str, str], key: str) -> None:
    assert parse_cloud(f"openai:m@{url}", TASK, environ)._key == key


def test_how_long_a_call_may_take_is_read_from_the_environment() -> None:
    text = "openai:m@http://127.0.0.1:1/v1"
    assert parse_cloud(text, TASK, {}).limits.seconds == 60
    assert parse_cloud(text, TASK, {}, CallLimits(seconds=300)).limits.seconds == 300
    told = parse_cloud(text, TASK, {"EDGEKIT_CLOUD_TIMEOUT": "600"}, CallLimits(seconds=300, retries=6)).limits
    assert (told.seconds, told.retries) == (600, 6)


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf", "3601"])
def test_a_call_that_may_take_no_time_or_for_ever_is_refused(seconds: str) -> None:
    with pytest.raises(EdgekitError, match=f"bad EDGEKIT_CLOUD_TIMEOUT: {seconds}. .* Give a number up to 3600."):
        parse_cloud("openai:m@http://127.0.0.1:1/v1", TASK, {"EDGEKIT_CLOUD_TIMEOUT": seconds})


@pytest.mark.parametrize(
    "text", ["", "orcale", "oracle:", "oracle:2", "oracle:nan", "openai:m", "openai:@http://x", "none:1"]
)
def test_an_unknown_cloud_is_refused(text: str) -> None:
    with pytest.raises(EdgekitError, match="Use oracle"):
        parse_cloud(text, TASK, {})


@pytest.mark.parametrize(
    ("text", "rule", "answer"),
    [
        ("First 12, then 1,050 hens. So there are 1,062 hens.", "number", "1,062"),
        ("It costs $18.50.", "number", "$18.50"),
        ("It is (B) since A is wrong. The answer: (C).", "choice", "(C)"),
        ("So x is \\boxed{\\frac{1}{2}}, not 7.", "math", "\\frac{1}{2}"),
        ("Adding them up makes 42 in all.", "math", "42"),
        ("x + 1", "math", "x + 1"),
        ("3 * 7", None, "3 * 7"),
        ("No idea.", "number", "No idea."),
        ("It is 4. <answer>5</answer>", "number", "5"),
    ],
)
def test_a_reply_in_prose_answers_by_the_task_s_rule(text: str, rule: str | None, answer: str) -> None:
    assert final_answer(text, rule) == answer


def test_replies_without_delimiters_are_counted(server) -> None:
    cloud = OpenAICloud("m", server.url, KEY, rule="number")
    cloud.answer(PROBLEMS[0])
    assert cloud.note() is None
    for reply in ("It is 7, I think.", "<answer>8</answer>", "Nine: 9"):
        cloud.read(PROBLEMS[0], reply)
    note = cloud.note()
    assert note is not None
    assert note.startswith("2 of 4 replies of m lacked <answer>: they were graded by the rule number")
