"""What a report says: headlines, gates, warnings, tables, and what it refuses."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from codestill.cli import main
from codestill.errors import RunError
from codestill.files.seal import seal_text
from codestill.files.serialize import append_jsonl, read_object, write_object
from codestill.report import write_report
from codestill.report.claims import headline, warnings
from codestill.report.collect import read_report
from codestill.report.samples import choose_samples
from codestill.report.tables import differences
from codestill.types import Call, Comparison, Event, Gates, Interval


def written(directory: Path) -> tuple[str, str]:
    """The pages that lie in a directory."""
    return (directory / "report.html").read_text("utf-8"), (directory / "report.md").read_text("utf-8")


def texts(directory: Path) -> tuple[str, str]:
    """The pages of a directory, made now."""
    write_report([directory])
    return written(directory)


def test_a_difference_that_excludes_zero_is_the_headline(compared: Path) -> None:
    expected = (
        "distilled − raw: +6.2 points [+2.5, +10.1] pass@1, paired over 30 tasks × 2 seeds: "
        "the interval excludes zero."
    )
    html, markdown = written(compared)
    assert expected in html
    assert expected.replace("[", "\\[").replace("]", "\\]") in markdown


def test_a_difference_that_includes_zero_shows_nothing(make: SimpleNamespace, tmp_path: Path) -> None:
    make.comparison(tmp_path, estimate=0.01)
    found = headline(read_report([tmp_path]).sections[0])
    assert found.tone == "not-shown"
    assert found.sentence.endswith("the interval includes zero: no difference shown.")


def seeded(comparison: Comparison, t_low: float, directory: Path) -> None:
    """The comparison with what stands beside its intervals."""
    numbers = zip(comparison.differences, ((0.005, 0.02), (0.04, 0.6)), strict=True)
    differences = tuple(
        d.model_copy(
            update={
                "by_seed": (d.interval.mean - 0.02, d.interval.mean + 0.02),
                "t_interval": Interval(mean=d.interval.mean, low=t_low, high=d.interval.mean + 0.254),
                "p": p,
                "t_p": t_p,
            }
        )
        for d, (p, t_p) in numbers
    )
    changed = comparison.model_copy(update={"differences": differences})
    write_object(directory / "comparison.json", changed)


def test_seeds_and_corrected_p_values_stand_beside_differences(make: SimpleNamespace, tmp_path: Path) -> None:
    seeded(make.comparison(tmp_path), -0.192, tmp_path)
    section = read_report([tmp_path]).sections[0]
    found = headline(section)
    assert found.tone == "plain"  # one interval excludes zero, the other does not
    assert found.sentence.endswith(
        "the interval excludes zero. By seed: +4.2, +8.2; the t interval over seeds, "
        "[−19.2, +31.6], includes zero."
    )
    table = differences(section)
    assert table is not None
    names = [cell.value for cell in table.head]
    assert names == ["difference", "metric", "estimate", "by seed", "pairs", "zero", "p"]
    assert (table.rows[0][3].value, table.rows[0][3].note) == ("+4.2, +8.2", "[−19.2, +31.6]")
    assert [(row[6].value, row[6].note) for row in table.rows] == [
        ("0.005", "Holm 0.01"),
        ("0.04", "Holm 0.04"),
    ]
    assert table.caption.endswith(
        "Beneath the seeds' own differences, a 95% t interval over them. Of 2 differences, these survive "
        "Holm's correction (all together at 5%): distilled − raw, distilled − raw, pass@10; by the t "
        "intervals: distilled − raw."
    )
    for page in texts(tmp_path):
        assert "+4.2, +8.2" in page and "Holm 0.01" in page
    seeded(make.comparison(tmp_path), 0.01, tmp_path)
    assert headline(read_report([tmp_path]).sections[0]).tone == "shown"


def test_a_comparison_without_values_by_seed_is_read(make: SimpleNamespace, tmp_path: Path) -> None:
    comparison = make.comparison(tmp_path)
    written = read_object(tmp_path / "comparison.json")
    for old in written["differences"]:
        for name in ("by_seed", "t_interval", "p", "t_p"):
            del old[name]
    write_object(tmp_path / "comparison.json", written)
    section = read_report([tmp_path]).sections[0]
    assert section.differences == comparison.differences
    table = differences(section)
    assert table is not None and table.caption.endswith("They are not adjusted for their number.")
    assert [cell.value for cell in table.head] == ["difference", "metric", "estimate", "pairs", "zero"]


def test_a_difference_against_us_says_so(make: SimpleNamespace, tmp_path: Path) -> None:
    make.comparison(tmp_path, estimate=-0.1)
    assert "in favour of raw" in headline(read_report([tmp_path]).sections[0]).sentence


def test_a_subset_is_never_a_headline(make: SimpleNamespace, tmp_path: Path) -> None:
    make.comparison(tmp_path, subset=True)
    section = read_report([tmp_path]).sections[0]
    assert headline(section).tone == "withheld"
    html, markdown = texts(tmp_path)
    for page in (html, markdown):
        assert "No headline: this is a subset" in page
        assert "do not compare these scores with published ones" in page
        assert "paired over 30 tasks" not in page


def test_a_failing_gate_withholds_the_headline(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path / "run", gates=Gates(tasks=30, reference=30, empty=30, pass_body=0))
    html, markdown = texts(tmp_path / "run")
    for page in (html, markdown):
        assert "No headline: the gates fail for student (an empty completion passes 30/30)." in page
        assert "Its scores cannot be believed." in page
    assert 'class="fails"' in html


def test_evaluations_that_differ_in_settings_are_flagged(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path / "a", temperature=0.2)
    make.run(tmp_path / "b", temperature=0.8, data_hash="another")
    (section,) = read_report([tmp_path / "a", tmp_path / "b"]).sections
    assert "The arms were not evaluated alike; they differ in sampling temperature, task data." in warnings(
        section
    )


def test_a_run_shows_its_ratio_to_its_teacher(make: SimpleNamespace, tmp_path: Path) -> None:
    student = make.run(tmp_path / "run", skill=0.5, scale=0.25)
    make.run(tmp_path / "teacher", skill=0.9, teacher=True)
    for part in ("results", "stages"):
        shutil.copytree(tmp_path / "teacher" / part, tmp_path / "run" / part, dirs_exist_ok=True)
    (section,) = read_report([tmp_path / "run"]).sections
    assert [arm.name for arm in section.arms] == ["student", "teacher"]
    _, markdown = texts(tmp_path / "run")
    row = next(line for line in markdown.splitlines() if line.startswith("| student"))
    assert f"{100 * student.pass_at[1].mean:.1f}%" in row
    assert "44.1, 0.25×" in row  # file size: 44.1 MB of 176.4 MB
    assert "× the teacher's" in headline(section).sentence


def test_both_pages_have_the_same_rows(compared: Path) -> None:
    html, markdown = written(compared)
    for text in ("0.25×", "8,192", "included: no difference shown", "peak memory, MB", "5f0c2a9d11e3b7a4"):
        assert text in html
        assert text in markdown


def test_the_accounting_says_in_what_arms_are_equal(make: SimpleNamespace, tmp_path: Path) -> None:
    make.comparison(tmp_path)
    html, markdown = texts(tmp_path)
    for page in (html, markdown):
        assert "Equal in all arms: prompts, steps; all else differs." in page


def test_the_teachers_calls_are_summed_by_stage(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path / "run")
    calls = [
        Call(
            key=f"t{number}#0",
            stage=stage,
            model="m",
            prompt_tokens=100,
            completion_tokens=11,
            cost=cost,
            retries=("busy",) * (number == 0),
            seconds=1390.2,
        )
        for stage, cost in (("round-1/solutions", 0.5), ("round-1/refinements", None))
        for number in range(3)
    ]
    append_jsonl(tmp_path / "run" / "ledger.jsonl", calls)
    html, markdown = texts(tmp_path / "run")
    rows = [line for line in markdown.splitlines() if "round-1/" in line]
    assert [[cell.strip() for cell in row.strip("|").split("|")][2:] for row in rows] == [
        ["3", "300", "33", "1", "1.5", "1,390"],
        ["3", "300", "33", "1", "unknown", "1,390"],
    ]
    assert "Teacher calls" in html


def test_rounds_are_arms_of_their_own_and_phases_of_training(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path)
    for part in ("results", "stages"):
        for path in sorted((tmp_path / part).iterdir()):
            (tmp_path / part / "round-1").mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / part / "round-1" / path.name)
    append_jsonl(
        tmp_path / "metrics.jsonl",
        [Event(stage="round-1/train", step=n, metrics={"loss": 2.0}) for n in (1, 2)],
    )
    report = read_report([tmp_path])
    assert [arm.name for arm in report.sections[0].arms] == ["student, round 1", "student"]
    assert {curve.phase for curve in report.curves} == {"", "round-1"}
    assert choose_samples(report).available == 2 * 390


def test_a_torn_last_line_is_left_out(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path)
    whole = read_report([tmp_path]).curves
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"stage":"train","st')
    assert read_report([tmp_path]).curves == whole


def test_a_step_logged_twice_counts_once(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path)
    append_jsonl(tmp_path / "metrics.jsonl", [Event(stage="train", step=0, metrics={"loss": 9.0})])
    train = next(c for c in read_report([tmp_path]).curves if not c.is_validation)
    assert train.metrics["loss"][0] == 9.0
    assert list(train.metrics["loss"]) == sorted(train.metrics["loss"])


def test_a_run_that_has_only_begun_gets_a_page(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(seal_text("recipe: sft\n"))
    html, markdown = texts(tmp_path)
    for page in (html, markdown):
        assert "evaluations (results/" in page.replace("\\", "")
    assert "recipe: sft" in html


def test_a_comparison_without_its_runs_says_that_gates_are_unchecked(
    make: SimpleNamespace, tmp_path: Path
) -> None:
    make.comparison(tmp_path)
    for path in tmp_path.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    html, _ = texts(tmp_path)
    assert "its gates could not be checked" in html
    assert "distilled: its run directory distilled-s0" in html


def test_a_sweep_warns_of_its_winner(make: SimpleNamespace, tmp_path: Path) -> None:
    for number in range(10):
        make.run(tmp_path / f"arm-{number}", skill=0.4 + number / 40, tasks=3, steps=0)
        config = f"objective:\n  alpha: {number / 10}\n"
        (tmp_path / f"arm-{number}" / "config.yaml").write_text(seal_text(config))
    html, _ = write_report([tmp_path / f"arm-{n}" for n in range(10)], tmp_path / "sweep.html")
    page = html.read_text(encoding="utf-8")
    assert html == tmp_path / "sweep.html"
    assert (tmp_path / "sweep.md").exists()
    assert "the highest of 10 arms" in page
    assert "pass@1 by objective.alpha" in page
    assert "--arm-9: hsl(" in page


def test_a_report_on_several_leaves_the_first_ones_own_alone(
    make: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        make.run(tmp_path / name, tasks=3, steps=0)
    own = texts(tmp_path / "a")
    html, markdown = write_report([tmp_path / "a", tmp_path / "b"])
    assert (html, markdown) == (tmp_path / "report-a-b.html", tmp_path / "report-a-b.md")
    assert html.exists() and written(tmp_path / "a") == own
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "both.html")])
    assert ended.value.code == 0 and str(tmp_path / "both.html") in capsys.readouterr().out
    assert (tmp_path / "both.html").read_text(encoding="utf-8") == html.read_text(encoding="utf-8")


def test_a_second_run_is_compared_with_the_first_task_by_task(make: SimpleNamespace, tmp_path: Path) -> None:
    first, second = tmp_path / "text/seed-0", tmp_path / "logits/seed-0"
    for directory, skill in ((first, 0.4), (second, 0.7)):
        make.run(directory, skill=skill, steps=0)
    html, markdown = write_report([first, second])
    text = markdown.read_text("utf-8")
    assert "logits/seed-0 − text/seed-0: +" in text and "paired over 30 tasks × 1 seed" in text
    assert "text/seed-0, logits/seed-0" in html.read_text("utf-8")
    (section,) = read_report([first, second, tmp_path / "text/seed-0"]).sections
    assert [(d.a, d.b) for d in section.differences] == [("logits/seed-0", "text/seed-0")]


def test_runs_that_were_not_evaluated_alike_have_no_difference(make: SimpleNamespace, tmp_path: Path) -> None:
    make.run(tmp_path / "a", steps=0)
    make.run(tmp_path / "b", steps=0, temperature=0.8)
    (section,) = read_report([tmp_path / "a", tmp_path / "b"]).sections
    assert section.differences == ()


def test_an_arm_is_explained_beneath_its_name(make: SimpleNamespace, tmp_path: Path) -> None:
    comparison = make.comparison(tmp_path / "c", steps=0)
    arms = [arm.model_copy(update={"about": f"what <{arm.name}> is"}) for arm in comparison.arms]
    write_object(tmp_path / "c/comparison.json", comparison.model_copy(update={"arms": tuple(arms)}))
    html, markdown = write_report([tmp_path / "c"])
    assert "what &lt;raw&gt; is; 2 seeds" in html.read_text("utf-8")
    assert "what &lt;raw&gt; is; 2 seeds" in markdown.read_text("utf-8")


def test_the_same_files_give_the_same_page(compared: Path, tmp_path: Path) -> None:
    again, _ = write_report([compared], tmp_path / "again.html")
    assert again.read_text(encoding="utf-8") == written(compared)[0]


def test_samples_cover_every_arm_and_verdict(compared: Path) -> None:
    report = read_report([compared])
    samples = choose_samples(report, limit=60)
    assert len(samples.chosen) == 60
    assert samples.available == 6 * 390
    for arm in ("distilled", "raw", "teacher"):
        assert {s.verdict for s in samples.chosen if s.arm == arm} == {
            "pass",
            "wrong",
            "exception",
            "cpu_timeout",
        }
    assert all(s.prompt for s in samples.chosen)
    assert all(bool(s.feedback) == (s.verdict != "pass") for s in samples.chosen)


def test_names_cannot_break_out_of_either_page(make: SimpleNamespace, tmp_path: Path) -> None:
    comparison = make.comparison(tmp_path)
    evil = "<b>$x$ | `y`"
    arms = tuple(
        arm.model_copy(update={"name": evil}) if arm.name == "raw" else arm for arm in comparison.arms
    )
    differences = tuple(d.model_copy(update={"b": evil}) for d in comparison.differences)
    changed = comparison.model_copy(update={"arms": arms, "differences": differences})
    write_object(tmp_path / "comparison.json", changed)
    html, markdown = texts(tmp_path)
    assert "<b>$x$" not in html
    assert "&lt;b&gt;$x$ | `y`" in html
    assert "&lt;b&gt;$x$ \\| \\`y\\`" in markdown


def test_names_cannot_steer_a_terminal_or_turn_the_writing_direction(
    make: SimpleNamespace, tmp_path: Path
) -> None:
    comparison = make.comparison(tmp_path)
    write_object(
        tmp_path / "comparison.json",
        comparison.model_copy(update={"title": "a\x1b[31mb\u202ec\ud800d"}),
    )
    for page in texts(tmp_path):
        assert "a␛" in page and not any(sign in page for sign in "\x1b\u202e\ud800")


def test_what_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"neither config\.yaml nor comparison\.json") as caught:
        write_report([tmp_path])
    assert "codestill run" in caught.value.next_step
    with pytest.raises(RunError, match="is not a directory"):
        write_report([tmp_path / "absent"])
    with pytest.raises(RunError, match="at least one"):
        write_report([])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("results/student-pocket.json", '{"model": "x"'),
        ("results/student-pocket.json", '{"model": "x"}'),
        ("environment.json", "[1"),
        ("config.yaml", "a: [1"),
        ("config.yaml", "just words"),
        ("metrics.jsonl", "no event\n"),
    ],
)
def test_a_corrupt_file_is_named(make: SimpleNamespace, tmp_path: Path, name: str, text: str) -> None:
    make.run(tmp_path, tasks=3, steps=5)
    (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=name.replace(".", r"\.")):
        write_report([tmp_path])


def test_a_corrupt_comparison_is_named(tmp_path: Path) -> None:
    write_object(tmp_path / "comparison.json", {})
    with pytest.raises(RunError, match=r"comparison\.json is not a Comparison"):
        write_report([tmp_path])
