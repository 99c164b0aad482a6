"""Reports: run and comparison directories in, one self-contained page out. Only files are read."""

from codestill.report.page import write_report

__all__ = ["write_report"]
