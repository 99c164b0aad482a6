"""The bodies that editors send."""

import json
from typing import Any

import httpx
import pytest
from tests.serve.conftest import Served, serving

from codestill.models import Decoding, SamplingConfig
from codestill.models.student import Student
from codestill.serve.service import TASK
from codestill.types import Request

PREFIX = "def add(first, second):\n    total = first"
LINES = "def add(first, second):\n"
LINE = "    total = first"
SUFFIX = "\n    return total\n"
LLAMA_VIM: dict[str, Any] = {
    "id_slot": 0,
    "input_prefix": LINES,
    "input_suffix": SUFFIX,
    "input_extra": [],
    "prompt": LINE,
    "n_predict": 24,
    "stop": [],
    "n_indent": 0,
    "top_k": 40,
    "top_p": 0.90,
    "samplers": ["top_k", "top_p", "infill"],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 60_000,
    "response_fields": [
        "content",
        "timings/prompt_n",
        "timings/prompt_ms",
        "timings/prompt_per_token_ms",
        "timings/prompt_per_second",
        "timings/predicted_n",
        "timings/predicted_ms",
        "timings/predicted_per_token_ms",
        "timings/predicted_per_second",
        "truncated",
        "tokens_cached",
    ],
}
LLAMA_VSCODE: dict[str, Any] = {
    "id_slot": 0,
    "input_prefix": LINES,
    "input_suffix": SUFFIX,
    "input_extra": [{"filename": "a.py", "text": "x = 1\n", "time": 5}],
    "prompt": LINE,
    "n_predict": 24,
    "n_cmpl": 2,
    "top_k": 40,
    "top_p": 0.99,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "n_indent": 4,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 60_000,
}


def own(student: Student, prefix: str = PREFIX, tokens: int = 24) -> str:
    """What ``complete`` puts into the gap."""
    asked = [Request(task_id=TASK, prompt=prefix, suffix=SUFFIX)]
    (done,) = student.complete(asked, Decoding(SamplingConfig(max_new_tokens=tokens)))
    return done.text


def test_llama_vim_is_answered_with_what_it_reads(served: Served, continuing: Student) -> None:
    found = served.post("/infill", LLAMA_VIM).json()
    assert found["content"] == own(continuing)
    assert found.keys() == set(LLAMA_VIM["response_fields"])
    assert found["timings/predicted_n"] == 24 and found["timings/predicted_per_second"] > 0
    assert found["timings/prompt_n"] > 10 and found["truncated"] is False


def test_llama_vscode_gets_its_answers_in_a_list(served: Served, continuing: Student) -> None:
    first, second = served.post("/infill", LLAMA_VSCODE).json()
    full = own(continuing, "x = 1\n" + PREFIX)
    assert full.startswith(first["content"]) and first["content"] == second["content"]
    assert (first["index"], second["index"]) == (0, 1)
    assert first["stop"] is True and first["timings"]["prompt_ms"] > 0


@pytest.mark.parametrize("body", [LLAMA_VIM, LLAMA_VSCODE])
def test_a_warm_up_costs_nothing(body: dict[str, Any], served: Served) -> None:
    before = served.number("codestill_prompt_tokens_total")
    warm = body | {
        "input_prefix": "",
        "input_suffix": "",
        "prompt": "",
        "n_predict": 0,
        "t_max_predict_ms": 1,
    }
    assert served.post("/infill", warm | {"samplers": []}).json() == {"content": ""}
    assert served.post("/infill", warm | {"response_fields": [""]}).json() == {}
    assert served.number("codestill_prompt_tokens_total") == before


def test_continue_is_streamed_the_gap(served: Served, continuing: Student) -> None:
    body = {"model": "tiny", "prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 24, "stop": ["\n\n\n"]}
    body |= {"temperature": 0.0, "stream": True}
    text = ""
    with httpx.stream("POST", f"{served.url}/v1/fim/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert events.pop() == "[DONE]"
    for event in events:
        text += json.loads(event)["choices"][0]["delta"]["content"]
    assert text == own(continuing).partition("\n\n\n")[0]
    whole = served.post("/v1/fim/completions", body | {"stream": False}).json()
    assert whole["choices"][0]["message"]["content"] == text


def test_a_suffix_is_no_text_behind_the_answer(served: Served, continuing: Student) -> None:
    ask = {"model": "tiny", "prompt": PREFIX, "max_tokens": 24}
    with_suffix = served.client.completions.create(**ask, suffix=SUFFIX).choices[0].text
    assert with_suffix == own(continuing) != served.client.completions.create(**ask).choices[0].text


def test_a_gap_is_streamed_as_llama_cpp_does(served: Served, continuing: Student) -> None:
    body = {"input_prefix": PREFIX, "input_suffix": SUFFIX, "n_predict": 24, "stream": True}
    with httpx.stream("POST", f"{served.url}/infill", json=body) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    assert "".join(event["content"] for event in events) == own(continuing)
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["tokens_predicted"] == 24 and events[-1]["stop_type"] == "limit"


def test_texts_around_a_gap_are_cut_to_fit(served: Served) -> None:
    long = "".join(f"value_{number} = {number}\n" for number in range(300))
    body = {"input_prefix": long, "input_suffix": long, "n_predict": 16, "input_extra": [{"text": long}]}
    found = served.post("/infill", body).json()
    assert found["truncated"] is True and found["tokens_predicted"] > 0
    assert 400 < found["tokens_evaluated"] <= 512 - 16


def test_a_line_ends_an_answer_whose_time_is_over(served: Served) -> None:
    body = {"input_prefix": PREFIX, "input_suffix": SUFFIX, "n_predict": 300, "temperature": 1.0, "seed": 1}
    body |= {"n_cmpl": 12}
    wholes = served.post("/infill", body).json()
    earlier = served.post("/infill", body | {"t_max_predict_ms": 1}).json()
    shorter = 0
    for whole, early in zip(wholes, earlier, strict=True):
        assert whole["content"].startswith(early["content"])
        if early["tokens_predicted"] < whole["tokens_predicted"]:
            assert "\n" in early["content"] and early["stop_type"] == "limit"
            shorter += 1
    assert shorter


def test_a_student_without_tokens_for_gaps_says_so() -> None:
    with serving(Student.load("pocket-base", device="cpu")) as served:
        for path, body in (
            ("/infill", {"input_prefix": "a"}),
            ("/infill", {"n_predict": 0}),
            ("/v1/completions", {"prompt": "a", "suffix": "b"}),
            ("/v1/fim/completions", {"prompt": "a"}),
        ):
            answer = served.post(path, body)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "no_fill_in_the_middle"
        assert served.service.no_infill
