"""The function library on real text, and at 100,000 functions.

    CODESTILL_DATA=... python benchmarks/library.py text [--embedder DIRECTORY]
    python benchmarks/library.py scale [--functions 100000] [--embedder DIRECTORY]

``text`` needs HumanEval, MBPP and the released rows of PERsD (persd_release) where CODESTILL_DATA points;
with --embedder also a sentence-transformers model. ``scale`` makes functions of the pocket world's grammar,
kills the process that adds them three times, and compares the files with those of one that was left alone.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from codestill.embeddings import SentenceEmbedderConfig
from codestill.pocket.generate import sketches
from codestill.recipes.amr_evol.library import Function, Library, LibrarySpec, Part, read_functions
from codestill.recipes.amr_evol.library.functions import read_headers
from codestill.tasks import TasksConfig
from codestill.tasks.alike import description

BATCH = 1000
QUERIES = 1000
PARTS: dict[str, tuple[Part, ...]] = {
    "name, signature, description": ("name", "signature", "description"),
    "types, description": ("types", "description"),
    "description": ("description",),
    "all, with code": ("name", "signature", "description", "code"),
}


def timed(what: str, work: Callable[[], object], per: int = 1) -> object:
    started = time.process_time()
    found = work()
    took = time.process_time() - started
    print(f"  {what}: {took:.2f} CPU s" + (f", {1000 * took / per:.2f} ms each" if per > 1 else ""))
    return found


# real text


def persd_rows(name: str) -> Iterator[tuple[str, Function | None]]:
    """Task id and function of every row; None where it does not parse or defines none."""
    path = Path(os.environ["CODESTILL_DATA"]) / "persd_release" / name
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        _, said, header = row["finetuning_prompt"].split('"""', 2)
        program = (header.lstrip("\n") + row["finetuning_completion"]).replace("\r\n", "\n")
        yield str(row["task_id"]), last_function(program, " ".join(said.split()), f"persd/{row['task_id']}")


def references(source: str) -> Iterator[tuple[str, Function | None]]:
    tasks = TasksConfig.model_validate({"source": source, "split": "all"}).load().tasks
    for task in tasks:
        yield task.task_id, last_function(task.prompt + task.reference, description(task), task.task_id)


def last_function(program: str, said: str, origin: str) -> Function | None:
    try:
        found = read_functions(program, origin)
    except SyntaxError:
        return None
    return found[-1].model_copy(update={"description": said}) if found else None


def of(rows: Iterator[tuple[str, Function | None]], name: str) -> dict[str, Function]:
    all_rows = list(rows)
    found = {key: one for key, one in all_rows if one is not None}
    codes = {one.code for one in found.values()}
    described = 0
    for one in found.values():
        try:
            described += len(read_headers(one.header)) == 1
        except ValueError:
            continue  # most are not annotated, as modules must be
    print(
        f"{name}: {len(all_rows):,} rows, {len(found):,} functions, {len(codes):,} different ones; "
        f"{described:,} could be modules as they stand: the rest name no types"
    )
    return found


def text(embedder: Path | None) -> None:
    rows = of(persd_rows("finetuning_data_chatgpt_gold.jsonl"), "teacher's solutions")
    again = of(persd_rows("finetuning_data_chatgpt_newgold_rectification_only_.jsonl"), "refinements")
    humaneval, mbpp = of(references("humaneval"), "HumanEval"), of(references("mbpp"), "MBPP")
    library_of = list(rows.values())
    configs = {f"TF-IDF of {name}": LibrarySpec(parts=parts) for name, parts in PARTS.items()}
    if embedder is not None:
        neural = SentenceEmbedderConfig(model=str(embedder), device="cpu")
        configs[f"{embedder.parent.name} of description"] = LibrarySpec(
            embedder=neural, parts=PARTS["description"]
        )
    for name, config in configs.items():
        print(f"\n{name}")
        with tempfile.TemporaryDirectory() as directory:
            library = Library(Path(directory), config)
            timed("add", lambda library=library: library.add("all", library_of), len(library_of))
            # A refinement's code asks for the same task's solution: without description, code alone tells.
            for what, keep in {"description": {}, "code without description": {"description": ""}}.items():
                asked = {key: one.model_copy(update=keep) for key, one in again.items() if key in rows}
                if not keep:
                    asked = {
                        key: one.model_copy(update={"code": "", "name": "", "signature": "()"})
                        for key, one in asked.items()
                    }
                asked = dict(list(asked.items())[:QUERIES])
                found = timed(
                    f"search by {what}",
                    lambda library=library, asked=asked: library.search(list(asked.values()), 5),
                    len(asked),
                )
                assert isinstance(found, list)
                ranks = [
                    [hit.function.origin for hit in hits].index(f"persd/{key}")
                    if f"persd/{key}" in [hit.function.origin for hit in hits]
                    else 5
                    for key, hits in zip(asked, found, strict=True)
                ]
                at_1 = sum(rank == 0 for rank in ranks) / len(ranks)
                at_5 = sum(rank < 5 for rank in ranks) / len(ranks)
                print(f"    found first {100 * at_1:.1f}%, among five {100 * at_5:.1f}%")
            for distance in (0.02, 0.1, 0.3):
                kept = library_of[:500]
                with tempfile.TemporaryDirectory() as other:
                    new = Library(Path(other), config).novel(kept, distance)
                print(f"    of the first 500, {len(new)} are further than {distance} from all before them")
    show_ten(library_of + list(mbpp.values()), list(humaneval.values()), list(configs.values()))


def show_ten(library_of: Sequence[Function], queries: Sequence[Function], configs: list[LibrarySpec]) -> None:
    """HumanEval's tasks among MBPP's references and the teacher's solutions, to be read by eye."""
    asked = random.Random(0).sample(list(queries), 10)
    print("\nten retrievals")
    shown = [config for config in configs if config.parts == PARTS["description"]]
    found = []
    for config in shown:
        with tempfile.TemporaryDirectory() as directory:
            library = Library(Path(directory), config)
            library.add("all", library_of)
            found.append(library.search(asked))
    for place, one in enumerate(asked):
        print(f"- {one.origin} {one.name}: {one.description[:150]}")
        for config, hits in zip(shown, found, strict=True):
            hit, kind = hits[place][0], config.embedder.type
            print(f"    {kind} {hit.cosine:.2f} {hit.function.name}: {hit.function.description[:120]}")


# scale


def made(count: int) -> Iterator[list[Function]]:
    """Batches of functions of the pocket world."""
    rng = random.Random(0)
    stream = sketches("train", {1: 1, 2: 2, 3: 4, 4: 4}, rng)
    for start in range(0, count, BATCH):
        yield [
            Function(
                name=item.function,
                signature=item.prompt[item.prompt.index("(") : item.prompt.index(":\n")],
                description=item.description,
                code=item.prompt + item.solution(rng),
                origin=f"pocket/{start + number}",
            )
            for number, item in zip(range(min(BATCH, count - start)), stream, strict=False)
        ]


def fill(directory: Path, count: int, manifest: LibrarySpec | None = None) -> None:
    library = Library(directory, manifest)
    for number, batch in enumerate(made(count)):
        if f"batch-{number}" not in library.batches:
            library.add(f"batch-{number}", batch)


def scale(count: int, embedder: Path | None) -> None:
    """Kills are tried with TF-IDF alone: whose rows they are makes no difference, and a neural embedder takes
    its time."""
    manifest = LibrarySpec()
    if embedder is not None:
        manifest = LibrarySpec(embedder=SentenceEmbedderConfig(model=str(embedder), device="cpu"))
    with tempfile.TemporaryDirectory() as root:
        whole, killed = Path(root) / "whole", Path(root) / "killed"
        timed("functions made", lambda: [None for _ in made(count)], count)
        timed("made and added", lambda: fill(whole, count, manifest), count)
        size = sum(path.stat().st_size for path in whole.iterdir())
        texts = sum(path.stat().st_size for path in whole.glob("*.jsonl"))
        print(f"  {size / count:.0f} bytes each, {texts / count:.0f} of them text")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        library = timed("opened", lambda: Library(whole))
        assert isinstance(library, Library) and len(library) == count
        queries = [one.model_copy(update={"code": ""}) for batch in made(BATCH) for one in batch]
        timed("first search", lambda: library.search(queries[:1]))
        timed("searched", lambda: library.search(queries[:200]), 200)
        timed("novelty of a batch of 100", lambda: library.novel(queries[:100], 0.05))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  peak resident memory: {after:.0f} MiB, {before:.0f} before it was opened")
        if embedder is not None:
            return
        delays = random.Random(1)
        for _ in range(3):
            child = subprocess.Popen([sys.executable, __file__, "fill", str(killed), str(count)])
            time.sleep(delays.uniform(4, 12))
            child.send_signal(signal.SIGKILL)
            child.wait()
            print(f"  killed with {len(Library(killed)) if killed.exists() else 0:,} functions in it")
        fill(killed, count)
        assert {p.name: p.read_bytes() for p in killed.iterdir() if not p.name.startswith(".")} == {
            p.name: p.read_bytes() for p in whole.iterdir()
        }
        print("  continued: the same bytes")
        shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    of_text = commands.add_parser("text")
    of_text.add_argument("--embedder", type=Path)
    of_scale = commands.add_parser("scale")
    of_scale.add_argument("--functions", type=int, default=100_000)
    of_scale.add_argument("--embedder", type=Path)
    of_fill = commands.add_parser("fill")
    of_fill.add_argument("directory", type=Path)
    of_fill.add_argument("functions", type=int)
    given = parser.parse_args()
    if given.command == "text":
        text(given.embedder)
    elif given.command == "fill":
        fill(given.directory, given.functions)
    else:
        scale(given.functions, given.embedder)


if __name__ == "__main__":
    main()
