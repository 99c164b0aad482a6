"""What runs hold, for a reader: a list of runs, the rows of their stages, and their training examples.

    listing   runs below a directory, with state, score and age
    rows      the records of every stage, whatever recipe wrote them, filtered
    page      rows as one static page
    export    training examples as a dataset that other trainers read

Only files are read, and nothing heavy is imported.
"""

from codestill.browse.export import FORMS, Form, export
from codestill.browse.listing import ListedRun, list_runs
from codestill.browse.page import write_rows
from codestill.browse.rows import Filter, Row, StageRows, read_stages

__all__ = [
    "FORMS",
    "Filter",
    "Form",
    "ListedRun",
    "Row",
    "StageRows",
    "export",
    "list_runs",
    "read_stages",
    "write_rows",
]
