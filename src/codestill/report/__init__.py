"""Reports: run and comparison directories in, one self-contained page out. Reads files only."""

from codestill.report.page import write_report

__all__ = ["write_report"]
