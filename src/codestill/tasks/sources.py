"""Where a benchmark's rows come from: a file, the CODESTILL_DATA directory, or the hub."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from codestill.errors import TaskError
from codestill.tasks.rows import LocatedRows, Row, read_rows

DATA_VARIABLE = "CODESTILL_DATA"
HUB_SECONDS = 10.0
"""Within which the hub has to answer."""


class Benchmark(NamedTuple):
    """A published benchmark: its file, its place on the hub, and the formats of its rows."""

    file: str
    hub_id: str
    row: type[Row]
    hub_row: type[Row]
    licence: str
    """By the hub's names, as its place there states it."""
    hub_config: str | None = None

    def form(self, values: dict[str, Any]) -> type[Row]:
        """The row's format. EvalPlus publishes two: inputs in its own files, a test program on the hub."""
        return self.hub_row if "test" in values and "base_input" not in values else self.row


def benchmark_rows(benchmark: Benchmark, path: Path | None, hub_id: str | None) -> LocatedRows:
    """The benchmark's rows, from ``path``, else CODESTILL_DATA, else the hub.

    Raises TaskError where none of them has it.
    """
    file = path or (None if hub_id else local_file(benchmark.file))
    return read_rows(file) if file else _from_hub(hub_id or benchmark.hub_id, benchmark)


def local_file(file: str) -> Path | None:
    """The file in the CODESTILL_DATA directory, also packed and outside of its subdirectory; None where it is
    not there."""
    directory = os.environ.get(DATA_VARIABLE)
    if not directory:
        return None
    for name in (file, Path(file).name):
        for ending in ("", ".gz"):
            path = Path(directory, name + ending)
            if path.is_file():
                return path
    return None


def _from_hub(hub_id: str, benchmark: Benchmark) -> LocatedRows:
    if not Path(hub_id).is_dir():
        _require_hub(hub_id, benchmark)
    import datasets  # takes seconds to import

    # A local directory holds one configuration, which has no name.
    config = None if Path(hub_id).is_dir() else benchmark.hub_config
    try:
        splits = datasets.load_dataset(hub_id, config)
    except Exception as error:  # datasets raises a dozen unrelated classes, three of them when offline
        raise _not_found(hub_id, benchmark, error) from error
    return [
        (f"{hub_id}[{split}]: row {number}", dict(row))
        for split, rows in splits.items()
        for number, row in enumerate(rows, 1)
    ]


def _require_hub(hub_id: str, benchmark: Benchmark) -> None:
    """Raises TaskError where the hub does not answer and no copy is kept: ``datasets`` tries for a minute."""
    from huggingface_hub import HfApi, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound, HfHubHTTPError, OfflineModeIsEnabled

    try:
        HfApi().dataset_info(hub_id, timeout=HUB_SECONDS)
    except (HfHubHTTPError, OfflineModeIsEnabled):
        pass  # it answers, or is not to be asked: datasets says at once what comes of that
    except Exception as error:  # of an HTTP library that depends on the version
        try:
            kept = {repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "dataset"}
        except CacheNotFound:
            kept = set[str]()
        if hub_id not in kept:
            raise _not_found(hub_id, benchmark, error) from error


def _not_found(hub_id: str, benchmark: Benchmark, error: Exception) -> TaskError:
    directory = os.environ.get(DATA_VARIABLE)
    tried = f"{benchmark.file} is not in {directory}" if directory else f"{DATA_VARIABLE} is not set"
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return TaskError(
        f"Cannot load {hub_id} from the hub ({reason}), and {tried}.",
        next_step="Give tasks of your own (a .jsonl file) or pocket, which is bundled; or set "
        f"{DATA_VARIABLE} to a directory with {benchmark.file}, or `path` to that file.",
    )
