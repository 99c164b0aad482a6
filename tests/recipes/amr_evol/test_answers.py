"""Answers by every method, from a teacher whose words are written here; programs are executed."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.scripted import Scripted
from tests.support.worlds import open_run

from codestill.errors import ConfigError, TaskError
from codestill.models import SamplingConfig
from codestill.prompts import CONTINUED, INSTRUCT, Prompts
from codestill.prompts.modular import mentions, says_yes
from codestill.recipes.amr_evol.agreement import AgreementConfig, agree
from codestill.recipes.amr_evol.decompose import decompose
from codestill.recipes.amr_evol.evolve import (
    EvolutionConfig,
    Wave,
    as_task,
    evolve,
    gate,
    new_functions,
    verify,
)
from codestill.recipes.amr_evol.instructions import InstructionsConfig, instruct
from codestill.recipes.amr_evol.library import Function, Library, LibrarySpec, read_functions
from codestill.recipes.amr_evol.responses import Response, answer_repair, best_of, chain_of_thought, direct
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.synthesis import SynthesisConfig, read_values
from codestill.tasks import TaskSet
from codestill.tasks.decontaminate import DecontaminateConfig
from codestill.teaching import Teaching
from codestill.types import Request, Task

GREEDY = SamplingConfig()
AGREEMENT = AgreementConfig(solutions=2, tests=2)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), 1) as box:
        yield box


@dataclass
class ScriptedSession:
    """A session whose teacher says what ``answer`` gives for a stage and a request."""

    answer: Callable[[str, Request], str]
    asked: list[tuple[str, Request]] = field(default_factory=list)
    cut: tuple[str, ...] = ()
    """Stages whose answers the token limit cuts."""

    def stage(self, stage: str) -> Scripted:
        def answer(request: Request) -> str:
            self.asked.append((stage, request))
            return self.answer(stage, request)

        return Scripted(answer, cut=lambda request: stage in self.cut)

    def prompts(self, stage: str) -> list[str]:
        return [request.prompt for name, request in self.asked if name == stage]


def asking(
    directory: Path,
    answer: Callable[[str, Request], str],
    prompts: Prompts = INSTRUCT,
    box: Sandbox | None = None,
) -> tuple[Teaching, Any]:
    session: Any = ScriptedSession(answer)
    no_sandbox: Any = box
    return Teaching(session, prompts, no_sandbox, open_run(directory)), session


def task(name: str, said: str = "Return twice x, plus one.", source: str = "here") -> Task:
    return Task(
        task_id=name,
        prompt=f'def {name}(x: int) -> int:\n    """{said}\n    """\n',
        entry_point=name,
        reference="    return 2 * x + 1\n",
        tests=(f"assert {name}(3) == 7", f"assert {name}(0) == 1"),  # pyright: ignore[reportArgumentType]
        source=source,
    )


def block(code: str) -> str:
    return f"Well.\n\n```python\n{code}\n```\n"


def solved(name: str, body: str) -> str:
    return block(f"def {name}(x: int) -> int:\n    {body}")


MODULES = block(
    'def twice_of(x: int) -> int:\n    """Return twice x."""\n\n'
    'def next_of(x: int) -> int:\n    """Return x plus one."""'
)


def given(tasks: list[Task], body: str = "    return x\n") -> dict[str, Response]:
    return {one.task_id: Response(task_id=one.task_id, completion=body, how="direct") for one in tasks}


def test_direct_answers_and_thoughts(tmp_path: Path) -> None:
    teaching, session = asking(tmp_path, lambda stage, _: solved("f", "return 2 * x + 1"))
    made = direct(teaching, [task("f")], GREEDY)["f"]
    assert (made.completion, made.how) == ("    return 2 * x + 1\n", "direct")
    thought = chain_of_thought(teaching, [task("f")], GREEDY)["f"]
    assert (thought.completion, thought.how) == (made.completion, "chain_of_thought")
    assert "count_open" in session.prompts("thoughts")[0]  # one worked example
    assert teaching.spent == {"direct": (1, 0), "thoughts": (1, 0)}


def test_a_malformed_decomposition_is_asked_for_again_and_then_given_up(tmp_path: Path) -> None:
    def answer(stage: str, request: Request) -> str:
        if request.task_id == "f":
            return MODULES if stage == "modules-again-2" else block("def f(:")
        return MODULES if request.task_id == "g" else block('def alone(x: int) -> int:\n    """One."""')

    teaching, session = asking(tmp_path, answer)
    tasks = [task("f"), task("g"), task("h")]
    modules, wrong = decompose(teaching, tasks, given(tasks), GREEDY, SamplingConfig(temperature=0.7), 2)
    assert [one.name for one in modules["f"]] == [one.name for one in modules["g"]] == ["twice_of", "next_of"]
    assert wrong == {"h": "fewer than two functions: 1"}
    stages = [(stage, request.task_id, request.sample) for stage, request in session.asked]
    assert stages == [
        *(("modules", name, 0) for name in "fgh"),
        *((f"modules-again-{n}", name, n) for n in (1, 2) for name in "fh"),
    ]
    assert "def f(x: int)" in session.prompts("modules")[0] and "return x" in session.prompts("modules")[0]


def modules_of(teaching: Teaching, tasks: list[Task]) -> dict[str, list[Function]]:
    return decompose(teaching, tasks, given(tasks), GREEDY, GREEDY, 0)[0]


TWICE = 'def doubled(x: int) -> int:\n    """Return twice x."""\n    return 2 * x\n'


def test_an_evolved_answer_uses_what_was_found_and_stands_alone(tmp_path: Path, sandbox: Sandbox) -> None:
    def answer(stage: str, request: Request) -> str:
        if stage == "modules":
            return MODULES
        if stage == "solved":
            return solved("next_of", "return x + 1")
        return solved(request.task_id, "return next_of(twice_of(x))")

    teaching, session = asking(tmp_path, answer, box=sandbox)
    library = Library(tmp_path / "library", LibrarySpec(parts=("description",)))
    library.add("seed", read_functions(TWICE, "seed"))
    tasks = [task("f"), task("g")]
    config = EvolutionConfig(cosine=0.9, missing="solve")
    found = evolve(teaching, Wave(tasks, given(tasks), modules_of(teaching, tasks)), library, config, GREEDY)
    assert found["f"].how == "evolved"
    space: dict = {}
    exec(tasks[0].prompt + found["f"].completion, space)
    assert space["f"](3) == 7
    # What was found is called like the module that it stands for; what was not is asked for, once.
    assert "def twice_of" in found["f"].completion and "doubled" not in found["f"].completion
    assert len(session.prompts("solved")) == 1
    shown = session.prompts("evolved")[0]
    assert "return 2 * x" in shown and "return x + 1" in shown
    new = new_functions(tasks, found)
    assert [one.origin for one in new] == ["f/twice_of", "f/next_of", "g/twice_of", "g/next_of"][: len(new)]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (solved("f", "return (x"), "does not parse"),
        (solved("other", "return x"), "lacks the function|does not parse"),
        (solved("f", "y = x\n    # by the provided functions\n    return y"), "mentions its prompt"),
    ],
)
def test_the_direct_answer_is_kept_where_the_evolved_one_is_of_no_use(
    answer: str, why: str, tmp_path: Path
) -> None:
    teaching, _ = asking(tmp_path, lambda stage, _: MODULES if stage == "modules" else answer)
    tasks = [task("f")]
    found = evolve(
        teaching, Wave(tasks, given(tasks), modules_of(teaching, tasks)), None, EvolutionConfig(), GREEDY
    )["f"]
    assert found.completion == "    return x\n" and found.how == "direct"
    assert re.search(why, found.why)


def test_an_answer_that_the_token_limit_cut_is_known_as_such_and_not_evolved(tmp_path: Path) -> None:
    teaching, session = asking(
        tmp_path, lambda stage, _: MODULES if stage == "modules" else solved("f", "return 2 * x + 1")
    )
    session.cut = ("direct", "evolved")
    tasks = [task("f")]
    assert direct(teaching, tasks, GREEDY)["f"].cut
    assert not chain_of_thought(teaching, tasks, GREEDY)["f"].cut
    wave = Wave(tasks, given(tasks), modules_of(teaching, tasks))
    found = evolve(teaching, wave, None, EvolutionConfig(), GREEDY)["f"]
    assert (found.how, found.why) == ("direct", "the evolved answer was truncated")


def test_a_set_that_shows_code_alone_keeps_the_direct_answer_without_it(tmp_path: Path) -> None:
    teaching, _ = asking(tmp_path, lambda *_: "", CONTINUED)
    tasks = [task("f")]
    modules = {"f": read_functions(TWICE)[:1]}
    bare = {"f": [modules["f"][0].model_copy(update={"code": ""})]}
    found = evolve(teaching, Wave(tasks, given(tasks), bare), None, EvolutionConfig(), GREEDY)["f"]
    assert found.why == "there is no function to show"


def assertions(name: str, *values: int) -> str:
    return "\n".join(f"assert {name}({x}) == {value}" for x, value in enumerate(values))


def test_written_assertions_are_read_strictly() -> None:
    said = ["- `assert f(1) == 2`", "assert f(1) == 3", "assert f(x) == 1", "assert g(1) == 1", "f(3)"]
    said.append("assert f([2]) == {'a': 1}")
    assert read_values("f", "\n".join(said)) == [("f(1)", "2"), ("f([2])", "{'a': 1}")]


def test_a_group_that_passes_the_same_tests_is_believed(tmp_path: Path, sandbox: Sandbox) -> None:
    def answer(stage: str, request: Request) -> str:
        if stage.endswith("calls"):
            return assertions(request.task_id, 1, 3, 99, 7)
        return solved(request.task_id, "return 2 * x + 1" if request.sample == 1 else "return x")

    teaching, _ = asking(tmp_path, answer, box=sandbox)
    tasks = [task("f"), task("g").model_copy(update={"reference": "    return x * x\n"})]
    found = agree(teaching, "x", tasks, AGREEMENT)
    # f: its answer and the first drawn pass three tests of four. g: no two answers pass the same two tests.
    assert found.keys() == {"f"}
    assert found["f"].members == (0, 1)
    assert [one.code for one in found["f"].tests] == [f"assert f({x}) == {2 * x + 1}" for x in (0, 1, 3)]


@pytest.mark.parametrize(("share", "believed"), [(0.0, True), (0.5, True), (0.51, False)])
def test_a_group_is_believed_from_its_share_of_the_answers_on(
    share: float, believed: bool, tmp_path: Path, sandbox: Sandbox
) -> None:
    def answer(stage: str, request: Request) -> str:
        if stage.endswith("calls"):
            return assertions(request.task_id, 1, 3, 5, 7)
        return solved(request.task_id, "return 2 * x + 1" if request.sample == 1 else "return x - 9")

    teaching, _ = asking(tmp_path, answer, box=sandbox)
    config = AGREEMENT.model_copy(update={"solutions": 3, "share": share})  # two answers of four agree
    assert bool(agree(teaching, "x", [task("f")], config)) == believed


def test_modules_without_code_are_shown_as_headers(tmp_path: Path) -> None:
    def answer(stage: str, request: Request) -> str:
        return MODULES if stage == "modules" else solved("f", "return 2 * x + 1")

    teaching, session = asking(tmp_path, answer)
    tasks = [task("f")]
    wave = Wave(tasks, given(tasks), modules_of(teaching, tasks))
    assert evolve(teaching, wave, None, EvolutionConfig(), GREEDY)["f"].how == "evolved"
    (shown,) = session.prompts("evolved")
    for header in (
        'def twice_of(x: int) -> int:\n    """Return twice x.',
        'def next_of(x: int) -> int:\n    """Return x plus one.',
    ):
        assert header in shown
    assert "    return x\n" in shown  # the direct answer
    assert "known to work" not in shown


def test_calls_alone_are_given_the_values_on_which_answers_agree(tmp_path: Path, sandbox: Sandbox) -> None:
    def answer(stage: str, request: Request) -> str:
        if stage.endswith("calls"):
            return f"{request.task_id}(0)\n{request.task_id}(5)\n"
        return "    return 2 * x + 1\n" if request.sample == 1 else "    return 3\n"

    teaching, _ = asking(tmp_path, answer, CONTINUED, box=sandbox)
    found = agree(teaching, "x", [task("f")], AGREEMENT)["f"]
    assert [one.code for one in found.tests] == ["assert f(0) == 1", "assert f(5) == 11"]
    assert found.members == (0, 1)


def test_answers_that_fail_the_teachers_tests_are_written_again(tmp_path: Path, sandbox: Sandbox) -> None:
    def answer(stage: str, request: Request) -> str:
        if stage == "tests-calls":
            return "no idea" if request.task_id == "h" else assertions(request.task_id, 1, 3)
        return solved(request.task_id, "return 1 + x + x")

    teaching, session = asking(tmp_path, answer, box=sandbox)
    tasks = [task("f"), task("g"), task("h")]
    before = given(tasks) | {"g": Response(task_id="g", completion="    return 2*x + 1\n", how="direct")}
    found = answer_repair(teaching, tasks, before, GREEDY, AGREEMENT)
    assert [found[name].how for name in "fgh"] == ["regenerated", "direct", "direct"]
    assert found["f"].completion == "    return 1 + x + x\n"
    (asked,) = session.prompts("regenerated")
    assert "    return x\n" in asked and "Assertion" not in asked and "assert" not in asked  # not the error


def test_the_best_of_several_is_what_most_agree_on(tmp_path: Path, sandbox: Sandbox) -> None:
    def answer(stage: str, request: Request) -> str:
        if stage.endswith("votes-calls"):
            return "f(0)\nf(5)\n"
        return "    return x\n" if request.sample == 1 else "    return 2 * x + 1\n"

    teaching, session = asking(tmp_path, answer, CONTINUED, box=sandbox)
    found = best_of(teaching, [task("f")], given([task("f")]), 3, None, AGREEMENT)["f"]
    assert (found.completion, found.how) == ("    return x\n", "voted")  # two each: the earlier
    found = best_of(
        teaching.within(teaching.run.part("more")), [task("f")], given([task("f")]), 5, None, AGREEMENT
    )["f"]
    assert found.completion == "    return 2 * x + 1\n"
    assert len(session.prompts("more/samples-5")) == 1


@pytest.mark.parametrize("how", ["fallback", "repair"])
def test_a_gate_falls_back_or_repairs(how: Any, tmp_path: Path, sandbox: Sandbox) -> None:
    def answer(stage: str, request: Request) -> str:
        if stage == "gate-calls":
            return assertions(request.task_id, 1, 3)
        return solved(request.task_id, "return 2 * x + 1" if request.task_id == "g" else "return 5")

    teaching, session = asking(tmp_path, answer, box=sandbox)
    tasks = [task("f"), task("g"), task("h")]
    wrong = {n: Response(task_id=n, completion="    return 0\n", how="evolved") for n in "fg"}
    right = Response(task_id="h", completion="    return x + x + 1\n", how="evolved")
    config = EvolutionConfig(gate=how)
    found = gate(teaching, Wave(tasks, given(tasks), {}), {**wrong, "h": right}, config, GREEDY, AGREEMENT)
    assert found["h"] == right
    assert found["f"].how == "direct" and found["f"].why == "it fails the teacher's tests"
    assert found["g"].how == ("repaired" if how == "repair" else "direct")
    assert len(session.prompts("gate-repairs")) == (2 if how == "repair" else 0)


def test_only_new_and_verified_functions_enter(tmp_path: Path, sandbox: Sandbox) -> None:
    def answer(stage: str, request: Request) -> str:
        name = request.task_id.rpartition("/")[2]
        if stage.endswith("calls"):
            return assertions(name, 0, 2, 4)
        return solved(name, "return x + x")

    teaching, session = asking(tmp_path, answer, box=sandbox)
    library = Library(tmp_path / "library")
    library.add("seed", read_functions('def old(x: int) -> int:\n    """Be old."""\n    return x\n', "seed"))
    programs = {
        "twice": 'def twice(x: int) -> int:\n    """Return twice x."""\n    return 2 * x\n',
        "again": 'def old(x: int) -> int:\n    """Be old."""\n    return x\n',
        "wrong": 'def wrong(x: int) -> int:\n    """Give the double."""\n    return 3 * x\n',
    }
    new = [one for name, program in programs.items() for one in read_functions(program, f"t/{name}")]
    entries = verify(teaching, "growth", new, library, 0.02, AGREEMENT)
    assert [one.name for one in entries] == ["twice"]
    assert entries[0].tests == tuple(f"assert twice({x}) == {2 * x}" for x in range(3))
    assert {request.task_id for _, request in session.asked} == {"t/twice", "t/wrong"}


def test_a_function_becomes_a_task_under_the_name_that_the_teacher_knows(tmp_path: Path) -> None:
    program = (
        "from typing import Any\n\n"
        'def a_of(x: Any) -> int:\n    """Say one.\n\n    Or two."""\n    return a_of(x)\n'
    )
    teaching, _ = asking(tmp_path, lambda *_: "", CONTINUED)
    made = as_task("t", read_functions(program)[0], teaching)
    assert made.entry_point == "find_result"
    assert "return find_result(x)" in made.reference
    exec(made.prompt + made.reference, {})
    assert "from typing import Any" in made.prompt


def test_what_mentions_functions_and_what_is_yes() -> None:
    assert mentions("    # uses the provided helper functions\n    return 1\n")
    assert mentions('    """By the retrieved functions."""\n')
    assert not mentions("    # the functions f and g\n    return 'the given functions'\n")
    assert not says_yes("<think>Yes? Perhaps.</think>No.")
    assert says_yes("Yes.") and says_yes("Hm") and not says_yes("No, the first asks for more; yes")


def test_prompts_without_modular_forms_are_refused(tmp_path: Path) -> None:
    teaching, _ = asking(tmp_path, lambda *_: "", INSTRUCT.model_copy(update={"modular": None}))
    with pytest.raises(ConfigError, match="have no form for functions"):
        chain_of_thought(teaching, [task("f")], GREEDY)
    assert CONTINUED.modular is not None
    with pytest.raises(ConfigError, match="the same"):
        CONTINUED.modular.to_compare("a", "b")


def test_each_level_is_evolved_from_the_one_before(tmp_path: Path) -> None:
    def answer(stage: str, request: Request) -> str:
        name = re.findall(r"def (\w+)\(", request.prompt)[-1] if stage.startswith("code") else "f0"
        said = f"Give back the name of level {stage} and no other"
        return block(f'def {name}_{len(name)}(x: str) -> str:\n    """{said}."""')

    teaching, session = asking(tmp_path, answer)
    seeds = TaskSet("seeds", (task("f"),), "train", "zero-shot", teaching.stop)
    proposals = SynthesisConfig(proposals=1, seeds_per_proposal=1)
    config = InstructionsConfig(proposals=proposals, levels=3, keep=(1, 2, 3), decontaminate=None)
    found = instruct(seeds, teaching, config, [])
    assert [one.entry_point for one in found.tasks] == ["f0_2_4", "f0_2_4_6", "f0_2_4_6_8"]
    parents = ["f0_2", "f0_2_4", "f0_2_4_6"]
    for number, parent in enumerate(parents, 1):
        (asked,) = session.prompts(f"code-evol-{number}")
        assert f"def {parent}(x: str)" in asked


@pytest.mark.parametrize("judge", ["rule", "teacher"])
def test_instructions_level_by_level_without_what_evaluation_repeats(judge: Any, tmp_path: Path) -> None:
    known = 'def merge(spans: str) -> str:\n    """Merge all spans of numbers that overlap somewhere."""'

    def answer(stage: str, request: Request) -> str:
        number = int(re.findall(r"\d+", f"0 {request.task_id.split()[0]}")[-1])
        if stage == "proposals":
            said = "Count the letters of a long text", "Sort strange birds by the length of wing"
            return block(f'def made_{number}(x: str) -> int:\n    """{said[number]}."""')
        if stage.startswith("same"):
            return "Yes." if "somewhere" in request.prompt else "No."
        if stage == "code-evol-2" and number == 0:
            return block(known)
        level = stage.rpartition("-")[2]
        if number == 1 and level == "2":
            return "I cannot."
        kinds = "carefully with every single vowel", "by colour and by age of feather"
        return block(
            f'def evolved_{level}_{number}(x: str) -> int:\n    """Level {level} {kinds[number]}."""'
        )

    teaching, session = asking(tmp_path, answer)
    seeds = TaskSet("seeds", (task("f"), task("g", "Do something else")), "train", "zero-shot", teaching.stop)
    said = "Merge all spans of numbers that overlap."
    other = task("merge_it", said).model_copy(update={"reference": "    return 0\n"})
    held_out = TaskSet("held", (other,), "test", "zero-shot", teaching.stop)
    config = InstructionsConfig(
        proposals=SynthesisConfig(proposals=2, seeds_per_proposal=1, words=(2, 50)),
        levels=2,
        keep=(0, 1, 2),
        judge=judge,
        # Near, and in no other view alike: so that it is judged.
        decontaminate=DecontaminateConfig(jaccard_words=0, cosine=0.6),
    )
    found = instruct(seeds, teaching, config, [held_out])
    assert [one.entry_point for one in found.tasks] == ["made_0", "made_1", "evolved_1_0", "evolved_1_1"]
    report = (tmp_path / "decontamination.txt").read_text()
    assert "Merge all spans" in report and "removed: 1" in report
    assert (tmp_path / "decontamination-seeds.txt").exists()
    same = replace(held_out, tasks=(other, *seeds.tasks))
    with pytest.raises(TaskError, match="no seed task is left"):
        instruct(seeds, teaching.within(teaching.run.part("none")), config, [same])
    assert bool(session.prompts("same")) == (judge == "teacher")
    ways = {prompt.partition("Make a new task of it: ")[2][:20] for prompt in session.prompts("code-evol-1")}
    assert len(ways) == 2
