"""What runs hold, for a reader: a list of runs, the rows of their stages, and their training examples.

    run       a run or comparison directory: scores, accounting, metrics, and all that follows
    listing   runs below a directory, with state, score and age
    rows      the records of every stage, whatever recipe wrote them, filtered
    page      rows as one static page
    export    training examples as a dataset that other trainers read

Only files are read, and nothing heavy is imported.
"""

from codestill.browse.export import FORMS, Form, export
from codestill.browse.listing import ListedRun, RunList, is_run, list_run, list_runs
from codestill.browse.page import write_rows
from codestill.browse.rows import Filter, Row, Rows, StageRows, Stages, read_stages
from codestill.browse.run import RunFiles, is_comparison, read_comparison, read_run

__all__ = [
    "FORMS",
    "Filter",
    "Form",
    "ListedRun",
    "Row",
    "Rows",
    "RunFiles",
    "RunList",
    "StageRows",
    "Stages",
    "export",
    "is_comparison",
    "is_run",
    "list_run",
    "list_runs",
    "read_comparison",
    "read_run",
    "read_stages",
    "write_rows",
]
