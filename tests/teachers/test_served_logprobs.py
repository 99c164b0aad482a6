"""Log-probabilities that are kept with answers: found out once, before anything else is paid for."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.listing import Listing, pocket
from tests.teachers import endpoint
from tests.teachers.endpoint import Behaviour, Server, serving

from codestill.errors import ConfigError, TeacherError
from codestill.files.serialize import read_jsonl
from codestill.models import Decoding, SamplingConfig
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.endpoint import PROBE
from codestill.teachers.frozen import LocalTeacher
from codestill.teachers.ledger import Ledger
from codestill.teachers.replay import Replayed, read_kept
from codestill.types import Call, Completion, Request

DECODING = Decoding(SamplingConfig(max_new_tokens=12))
HEAD = 'def f(xs: list[int]) -> int:\n    """Return the {} of xs.\n    """\n'
ASKED = [Request(task_id=word, prompt=HEAD.format(word)) for word in ("sum", "minimum")]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def teacher() -> LocalTeacher:
    return pocket()


def kept(server: Server, directory: Path, logprobs: int | None = 5, **settings: Any) -> Replayed:
    config = {"model": "big", "base_url": server.url, "endpoint": "completions", "retries": 0}
    one = ApiTeacherConfig.model_validate(config | {"logprobs": logprobs} | settings).build()
    one.ledger = Ledger(directory / "run" / "ledger.jsonl")
    return Replayed(one, directory / "answers")


def ask(one: Replayed) -> dict[str, Completion]:
    return {answer.task_id: answer for answer in one.complete(ASKED, DECODING)}


def calls(directory: Path) -> list[str]:
    path = directory / "run" / "ledger.jsonl"
    return [call.key for call in read_jsonl(path, Call)] if path.exists() else []


@pytest.mark.parametrize("form", ["chat", "completions"])
def test_what_is_listed_is_kept_in_the_answers_file_alone(
    form: str, teacher: LocalTeacher, tmp_path: Path
) -> None:
    with serving(Listing(teacher)) as server:
        first = ask(kept(server, tmp_path, endpoint=form))
        fields = {"logprobs": True, "top_logprobs": 5} if form == "chat" else {"logprobs": 5}
        assert all(fields.items() <= asked.items() for asked in server.asked)
        assert calls(tmp_path)[0] == "logprobs#0" and sorted(calls(tmp_path)[1:]) == ["minimum#0", "sum#0"]
        assert ask(kept(server, tmp_path, endpoint=form)) == first  # neither the probe nor an answer again
        assert len(server.asked) == 3
    for answer in first.values():
        assert answer.listed is None and "listed" not in answer.model_dump()
        again = read_kept(tmp_path / "answers", answer.kept)
        assert again.text == answer.text and again.listed is not None
        assert again.listed.positions == answer.tokens


def test_answers_without_log_probabilities_are_asked_for_again_if_these_are_wanted(
    teacher: LocalTeacher, tmp_path: Path
) -> None:
    with serving(Listing(teacher)) as server:
        plain = ask(kept(server, tmp_path, None))
        assert len(server.asked) == 2 and not any("logprobs" in asked for asked in server.asked)
        assert {answer.kept for answer in plain.values()} == {""}
        assert {word: answer.text for word, answer in ask(kept(server, tmp_path)).items()} == {
            word: answer.text for word, answer in plain.items()
        }
        assert len(server.asked) == 5
        assert ask(kept(server, tmp_path, None)) == plain and len(server.asked) == 5


def refuses_the_field(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
    if "logprobs" in asked:
        body = {"error": {"message": "logprobs must be at most 4"}}
        handler.send(400, json.dumps(body).encode())
    else:
        endpoint.behaves(handler, asked, before)


@pytest.mark.parametrize(
    ("behave", "said", "paid"),
    [
        (endpoint.behaves, "big gives no log-probabilities.*asked for 5.*answers with text alone", 1),
        ("three at most", "big gives no log-probabilities.*asked for 5.*lists 3 at most", 1),
        (refuses_the_field, "big refused logprobs#0 without log-probabilities: status 400.*at most 4", 0),
    ],
)
def test_a_server_that_cannot_is_refused_by_name_before_anything_else_is_paid_for(
    behave: Behaviour | str, said: str, paid: int, teacher: LocalTeacher, tmp_path: Path
) -> None:
    answers = Listing(teacher, most=3) if isinstance(behave, str) else behave
    with serving(answers) as server:
        with pytest.raises(TeacherError, match=said) as raised:
            ask(kept(server, tmp_path))
        assert "--max-logprobs" in raised.value.next_step
        assert [endpoint.said(asked) for asked in server.asked] == [PROBE.request.prompt]
        assert calls(tmp_path) == ["logprobs#0"] * paid
        server.behave = Listing(teacher)  # the server is started anew, with what it needs
        assert len(ask(kept(server, tmp_path))) == 2
        assert len(server.asked) == 4


def test_one_answer_without_log_probabilities_is_named_and_the_others_are_kept(
    teacher: LocalTeacher, tmp_path: Path
) -> None:
    whole = Listing(teacher)

    def forgets_one(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        asked = (
            {name: value for name, value in asked.items() if name != "logprobs"}
            if ("minimum" in endpoint.said(asked) and not before)
            else asked
        )
        whole(handler, asked, before)

    with serving(forgets_one) as server:
        with pytest.raises(TeacherError, match=r"answered minimum#0 without log-probabilities"):
            ask(kept(server, tmp_path))
        assert sorted(calls(tmp_path)) == ["logprobs#0", "sum#0"]
        assert len(ask(kept(server, tmp_path))) == 2 and len(server.asked) == 4


@pytest.mark.parametrize("sampling", [{"temperature": 0.7}, {"temperature": 1.0, "top_p": 0.9}])
def test_sampling_at_which_servers_differ_is_refused_before_a_call(
    sampling: dict[str, float], tmp_path: Path
) -> None:
    with serving() as server:
        one = kept(server, tmp_path)
        with pytest.raises(ConfigError, match=r"some servers give log-probabilities before these"):
            list(one.teacher.complete(ASKED, Decoding(SamplingConfig(**sampling))))  # type: ignore[arg-type]
        assert not server.asked


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"omit": ["temperature"]}, "without temperature, nobody knows"),
        ({"omit": ["top_p"]}, "without top_p, nobody knows"),
        ({"extra_body": {"logprobs": 3}}, "logprobs would stand in a request twice"),
        (
            {"extra_body": {"top_logprobs": 3}, "endpoint": "chat"},
            "top_logprobs would stand",
        ),
        ({"logprobs": 0}, "greater than 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ApiTeacherConfig.model_validate({"model": "m", "logprobs": 5} | settings)


def test_a_missing_or_damaged_answer_is_named(teacher: LocalTeacher, tmp_path: Path) -> None:
    with serving(Listing(teacher)) as server:
        name = ask(kept(server, tmp_path))["sum"].kept
    path = tmp_path / "answers" / name[:2] / f"{name}.json"
    path.write_text(path.read_text().replace('"positions"', '"position5"'))
    with pytest.raises(TeacherError, match=path.name):
        read_kept(tmp_path / "answers", name)
    path.unlink()
    with pytest.raises(TeacherError, match=f"{path.name} is missing"):
        read_kept(tmp_path / "answers", name)


def test_concurrent_first_questions_probe_once(teacher: LocalTeacher, tmp_path: Path) -> None:
    """However many requests wait, one call goes before them."""
    seen, whole, lock = [], Listing(teacher), threading.Lock()

    def notes(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        with lock:
            seen.append(endpoint.said(asked))
        whole(handler, asked, before)

    with serving(notes) as server:
        ask(kept(server, tmp_path, concurrency=8))
    assert seen[0] == PROBE.request.prompt and seen.count(PROBE.request.prompt) == 1


def test_a_temperature_that_is_refused_is_not_given_up(teacher: LocalTeacher, tmp_path: Path) -> None:
    """As it is where text alone is wanted: log-probabilities could be at any."""

    def refuses(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        body = {"error": {"message": "temperature is not supported by this model"}}
        handler.send(400, json.dumps(body).encode())

    with serving(refuses) as server:
        with pytest.raises(TeacherError, match=r"refused logprobs#0: status 400: .*temperature"):
            ask(kept(server, tmp_path))
        assert len(server.asked) == 1
