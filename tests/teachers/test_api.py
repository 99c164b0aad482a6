"""A teacher over HTTP: whatever the endpoint does, nothing is lost, nothing is paid twice."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.teachers import endpoint
from tests.teachers.endpoint import Behaviour, Server, serving

from codestill import openai_client as module
from codestill.errors import BudgetError, ConfigError, TeacherError
from codestill.files.serialize import read_jsonl
from codestill.models import Completer, Decoding
from codestill.models.settings import SamplingConfig
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.endpoint import ApiTeacher
from codestill.teachers.ledger import Budget, Ledger, Prices
from codestill.teachers.replay import Replayed
from codestill.types import Call, Request

SAMPLING = SamplingConfig(max_new_tokens=50, temperature=0.5)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def teacher(server: Server, ledger: Ledger | None = None, **settings: Any) -> ApiTeacher:
    config = ApiTeacherConfig.model_validate(
        {"model": "big", "base_url": server.url, "retries": 3, "timeout_seconds": 5} | settings
    )
    made = config.build()
    made.ledger = ledger
    return made


def requests(count: int = 6) -> list[Request]:
    return [Request(task_id=f"t/{n}", prompt=f"say {n}") for n in range(count)]


def answers(one: Completer, asked: list[Request] | None = None) -> dict[str, str]:
    return {done.key: done.text for done in one.complete(asked or requests(), Decoding(SAMPLING))}


RIGHT = {f"t/{n}#0": f"SAY {n}" for n in range(6)}


def test_answers_whatever_the_order(server: Server) -> None:
    """The first prompts take the longest; they arrive last, and belong to whom they belong."""

    def slow_at_first(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        time.sleep(0.05 * (6 - int(endpoint.said(asked)[-1])))
        endpoint.behaves(handler, asked, before)

    server.behave = slow_at_first
    one = teacher(server, concurrency=3, system_prompt="Be brief.")
    assert isinstance(one, Completer)
    assert answers(one) == RIGHT
    assert server.busiest == 3
    asked = server.asked[0]
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (asked["temperature"], asked["max_tokens"], asked["stream"]) == (0.5, 50, False)
    assert len({one["seed"] for one in server.asked}) == 6


def test_completions_continue_the_prompt_as_it_stands(server: Server) -> None:
    assert answers(teacher(server, endpoint="completions")) == RIGHT
    assert all("messages" not in one for one in server.asked)


@pytest.mark.parametrize(
    "fault",
    [
        endpoint.refuses(429, ("Retry-After", "0.05")),
        endpoint.refuses(500),
        endpoint.refuses(503),
        endpoint.cuts_the_connection,
        endpoint.cuts_the_answer,
        endpoint.sends_half_json,
        endpoint.has_no_choice,
        endpoint.says(b"<html>Bad gateway</html>"),
        endpoint.says(b""),
        endpoint.says(b"[" * 100_000),
    ],
    ids=[
        "429",
        "500",
        "503",
        "cut connection",
        "cut answer",
        "half JSON",
        "no choices",
        "HTML",
        "empty",
        "deep",
    ],
)
def test_faults_that_pass_are_tried_again(fault: Behaviour, server: Server, tmp_path: Path) -> None:
    server.behave = endpoint.at_first(fault, times=2)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert answers(teacher(server, ledger)) == RIGHT
    assert len(server.asked) == 18
    calls = list(read_jsonl(ledger.path, Call))
    assert sorted(call.key for call in calls) == sorted(RIGHT)
    assert all(len(call.retries) == 2 for call in calls)


def test_a_pause_that_is_asked_for_is_made(server: Server) -> None:
    server.behave = endpoint.at_first(endpoint.refuses(429, ("Retry-After", "0.4")))
    started = time.monotonic()
    assert answers(teacher(server), requests(1)) == {"t/0#0": "SAY 0"}
    assert time.monotonic() - started >= 0.4


def test_a_slow_drip_is_cut_off(server: Server) -> None:
    server.behave = endpoint.at_first(endpoint.drips)
    started = time.monotonic()
    assert answers(teacher(server, timeout_seconds=2)) == RIGHT
    assert time.monotonic() - started < 20


def one_fails(fault: Behaviour) -> Behaviour:
    """The third request never succeeds."""
    return lambda handler, asked, before: (fault if endpoint.said(asked) == "say 2" else endpoint.behaves)(
        handler, asked, before
    )


@pytest.mark.parametrize(
    ("name", "accepted"), [("big-2026-01-01", True), ("big@main", True), ("big@v2", False), ("bigger", False)]
)
def test_a_model_answers_by_its_name_or_as_a_version_of_it(name: str, accepted: bool, server: Server) -> None:
    server.behave = lambda handler, asked, before: handler.send(200, endpoint.answer(asked, model=name))
    if accepted:
        assert answers(teacher(server)) == RIGHT
    else:
        with pytest.raises(TeacherError, match=f"but '{name}' answered"):
            answers(teacher(server))


@pytest.mark.parametrize(
    ("fault", "calls", "said"),
    [
        (endpoint.refuses(400), 1, "big refused t/2#0: status 400"),
        (endpoint.is_another_model, 1, "big was requested for t/2#0, but 'gpt-2' answered"),
        (endpoint.refuses(500), 4, "no usable answer to t/2#0 in 4 calls; last: status 500"),
        (endpoint.has_no_choice, 4, "t/2#0 in 4 calls; .* no choices"),
        (endpoint.cuts_the_connection, 4, "t/2#0 in 4 calls; last: the connection failed"),
    ],
    ids=["400", "another model", "500 for ever", "no choices for ever", "cut connection for ever"],
)
@pytest.mark.parametrize("concurrency", [1, 6])
def test_one_request_without_an_answer_leaves_the_others_alone(
    fault: Behaviour, calls: int, said: str, concurrency: int, server: Server, tmp_path: Path
) -> None:
    server.behave = one_fails(fault)
    ledger, found = Ledger(tmp_path / "ledger.jsonl"), {}
    kept = Replayed(teacher(server, ledger, concurrency=concurrency), tmp_path / "replay")
    with pytest.raises(TeacherError, match=said):
        for done in kept.complete(requests(), Decoding(SAMPLING)):
            found[done.key] = done.text
    rest = {key: text for key, text in RIGHT.items() if key != "t/2#0"}
    assert found == rest and {call.key for call in read_jsonl(ledger.path, Call)} == rest.keys()
    assert ledger.promised.calls == 0
    assert server.times("say 2") == calls and len(server.asked) == 5 + calls
    server.behave = endpoint.behaves
    assert answers(kept) == RIGHT and len(server.asked) == 6 + calls


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_refusal_that_concerns_every_request_stops(status: int, server: Server) -> None:
    server.behave = one_fails(endpoint.refuses(status))
    found = {}
    with pytest.raises(TeacherError, match=f"refused t/2#0: status {status}"):
        for done in teacher(server, concurrency=1).complete(requests(), Decoding(SAMPLING)):
            found[done.key] = done.text
    assert found == {"t/0#0": "SAY 0", "t/1#0": "SAY 1"}
    assert server.times("say 2") == 1 and server.times("say 3") == 0


def test_all_requests_without_an_answer_are_named(server: Server) -> None:
    server.behave = lambda handler, asked, before: (
        endpoint.has_no_choice if endpoint.said(asked) in ("say 1", "say 4") else endpoint.behaves
    )(handler, asked, before)
    with pytest.raises(TeacherError, match=r"t/1#0 in 1 call;.*2 requests have no answer; t/4#0: .*choices"):
        answers(teacher(server, concurrency=1, retries=0))
    assert len(server.asked) == 6


def test_what_an_endpoint_says_can_be_printed_and_stored(server: Server, tmp_path: Path) -> None:
    server.behave = endpoint.at_first(endpoint.says(b'{"error": "\\ud800 \\u001b[31mred \\u202e"}'))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert answers(teacher(server, ledger)) == RIGHT
    replaced = "invalid answer: it holds an error: \ufffd \ufffd[31mred \ufffd"
    assert {call.retries for call in read_jsonl(ledger.path, Call)} == {(replaced,)}


def test_an_endpoint_that_answers_nothing_is_not_asked_for_ever(server: Server) -> None:
    server.behave = endpoint.refuses(500)
    with pytest.raises(TeacherError, match=r"16 requests have no answer; .*and 11 more; then no") as raised:
        answers(teacher(server, concurrency=1, retries=0), requests(40))
    assert len(server.asked) == 16
    assert "t/4#0: status 500" in str(raised.value) and "t/5#0" not in str(raised.value)


def test_an_endpoint_that_comes_back_is_found_again() -> None:
    """It is stopped after the second answer, and started again on its port a moment later."""
    with serving() as first:
        one = teacher(first, concurrency=1, retries=20)
        arriving = one.complete(requests(), Decoding(SAMPLING))
        found = {done.key: done.text for done in (next(arriving), next(arriving))}
    port = first.port

    def come_back() -> None:
        time.sleep(0.2)
        with serving(port=port) as second:
            done.wait(20)
            again.extend(second.asked)

    done, again = threading.Event(), []
    thread = threading.Thread(target=come_back)
    thread.start()
    found |= {one.key: one.text for one in arriving}
    done.set()
    thread.join()
    assert found == RIGHT
    assert again and len(first.asked) + len(again) >= 6


def test_a_key_is_sent_and_stands_in_no_error_and_no_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-planted-secret")
    body = b'{"error": {"message": "Incorrect API key provided: sk-planted-secret"}}'

    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        if endpoint.said(asked) == "say 1":
            handler.send(401, body)
        else:
            endpoint.behaves(handler, asked, before)

    server.behave = behave
    one = teacher(server, Ledger(tmp_path / "ledger.jsonl"), key_variable="MY_KEY", concurrency=1)
    kept = Replayed(one, tmp_path / "replay")
    with pytest.raises(TeacherError) as raised:
        answers(kept)
    assert "Incorrect API key provided: ***" in str(raised.value)
    assert server.keys == {"Bearer sk-planted-secret"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert not any(b"planted" in path.read_bytes() for path in files)
    assert "planted" not in one.config.model_dump_json()


def test_a_missing_key_is_noticed_before_a_call() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        ApiTeacherConfig(model="big").build()


# budgets


@pytest.mark.parametrize(
    ("budget", "answered"),
    [
        (Budget(calls=4), 4),
        (Budget(tokens=100), 4),  # each spends 10, and might spend 68
        (Budget(money=0.000_150), 3),  # 13 millionths, and 118
    ],
    ids=["calls", "tokens", "money"],
)
def test_a_budget_is_kept_and_a_larger_one_goes_on(
    budget: Budget, answered: int, server: Server, tmp_path: Path
) -> None:
    prices = Prices(prompt=1.0, completion=2.0)
    ledger = Ledger(tmp_path / "ledger.jsonl", budget)
    kept = Replayed(teacher(server, ledger, prices=prices, concurrency=2), tmp_path / "replay")
    with pytest.raises(BudgetError, match="does not allow another call"):
        answers(kept)
    assert len(server.asked) == answered
    assert ledger.spent.calls == len(server.asked)
    for name in ("calls", "tokens", "money"):
        limit = getattr(budget, name)
        assert limit is None or getattr(ledger.spent, name) <= limit
    assert ledger.promised.calls == ledger.promised.tokens == 0
    more = Ledger(tmp_path / "ledger.jsonl", Budget(calls=6))
    assert more.spent.calls == ledger.spent.calls
    assert answers(Replayed(teacher(server, more, prices=prices), tmp_path / "replay")) == RIGHT
    assert len(server.asked) == more.spent.calls == 6


def test_money_without_prices_is_refused(server: Server, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", Budget(money=1.0))
    with pytest.raises(BudgetError, match="prices are unknown"):
        answers(teacher(server, ledger))
    assert not server.asked


def test_the_ledger_says_what_was_spent(server: Server, tmp_path: Path) -> None:
    told: list[tuple[Call, int]] = []
    ledger = Ledger(tmp_path / "ledger.jsonl", tell=lambda call, spent: told.append((call, spent.calls)))
    one = teacher(server, ledger, prices=Prices(prompt=1.0, completion=2.0))
    one.stage = "refinements"
    answers(one)
    assert [calls for _, calls in told] == [1, 2, 3, 4, 5, 6]
    assert {call.stage for call, _ in told} == {"refinements"}
    assert (ledger.spent.calls, ledger.spent.tokens) == (6, 60)
    assert ledger.spent.money == pytest.approx(6 * 13e-6)
    with ledger.path.open("a") as stream:
        stream.write('{"key": "torn')
    assert Ledger(ledger.path).spent == ledger.spent


# replay


def test_what_was_answered_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    kept = Replayed(teacher(server), tmp_path)
    assert answers(kept, requests(3)) == dict(list(RIGHT.items())[:3])
    assert answers(kept) == RIGHT
    assert len(server.asked) == 6
    renamed = [one.model_copy(update={"task_id": f"other/{one.task_id}"}) for one in requests()]
    assert answers(kept, renamed) == {f"other/{key}": text for key, text in RIGHT.items()}
    assert len(server.asked) == 6


def differently(server: Server) -> list[Callable[[Path], Any]]:
    """Ways to ask something else."""
    again = [one.model_copy(update={"sample": 1}) for one in requests(1)]
    warm = SAMPLING.model_copy(update={"temperature": 0.9})
    return [
        lambda path: answers(Replayed(teacher(server), path), again),
        lambda path: answers(Replayed(teacher(server, model="bigger"), path), requests(1)),
        lambda path: answers(Replayed(teacher(server, system_prompt="Be brief."), path), requests(1)),
        lambda path: list(Replayed(teacher(server), path).complete(requests(1), Decoding(warm))),
        lambda path: list(Replayed(teacher(server), path).complete(requests(1), Decoding(SAMPLING, seed=1))),
    ]


def test_another_question_is_another(server: Server, tmp_path: Path) -> None:
    answers(Replayed(teacher(server), tmp_path), requests(1))
    for number, ask in enumerate(differently(server), start=2):
        ask(tmp_path)
        assert len(server.asked) == number
    same = SAMPLING.model_copy(update={"batch_size": 3})  # no endpoint ever sees it
    list(Replayed(teacher(server), tmp_path).complete(requests(1), Decoding(same)))
    assert len(server.asked) == 6


def test_replay_only_is_offline_and_names_what_is_missing(server: Server, tmp_path: Path) -> None:
    answers(Replayed(teacher(server), tmp_path), requests(3))
    server.asked.clear()
    offline = Replayed(teacher(server), tmp_path, "only")
    assert answers(offline, requests(3)) == dict(list(RIGHT.items())[:3])
    with pytest.raises(TeacherError, match=r"3 answers are not in .* first t/3#0: 'say 3'"):
        answers(offline)
    assert not server.asked


def test_two_at_once_share_their_answers(server: Server, tmp_path: Path) -> None:
    found: list[dict[str, str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(answers(Replayed(teacher(server), tmp_path))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [RIGHT, RIGHT]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 6


OPENAI = (
    "This model's maximum context length is 100 tokens. However, you requested 150 tokens "
    "(90 in the messages, 60 in the completion)."
)
VLLM = "The decoder prompt (length 900) is longer than the maximum model length of 100."


@pytest.mark.parametrize("message", [OPENAI, VLLM, "prompt is too long: 900 tokens > 100 maximum"])
def test_a_prompt_too_long_for_the_endpoint_ends_no_stage(message: str, server: Server) -> None:
    def refuses_the_long(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        if "long" in endpoint.said(asked):
            handler.send(400, json.dumps({"error": {"message": message}}).encode())
        else:
            endpoint.behaves(handler, asked, before)

    server.behave = refuses_the_long
    wanted = [Request(task_id=name, prompt=name) for name in ("a", "long", "b", "c")]
    done = {answer.task_id: answer for answer in teacher(server).complete(wanted, Decoding(SAMPLING))}
    assert {name for name, answer in done.items() if answer.finish == "prompt_too_long"} == {"long"}
    assert done["a"].text == "A" and done["long"].text == ""


def test_an_answer_that_alone_exceeds_the_context_is_a_mistake(server: Server) -> None:
    server.behave = lambda handler, asked, before: handler.send(
        400, json.dumps({"error": {"message": OPENAI}}).encode()
    )
    decoding = Decoding(SamplingConfig(max_new_tokens=100))
    with pytest.raises(TeacherError, match="refused"):
        list(teacher(server).complete([Request(task_id="a", prompt="a")], decoding))
