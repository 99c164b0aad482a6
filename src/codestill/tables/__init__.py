"""What users read as tables, made once: the command line prints them, Python and notebooks show them.

``table`` is a table and what shows itself as tables; ``scores`` the scores of models; ``differences`` their
paired differences in words.
"""

from codestill.tables.table import Accounting, Line, Table, Tabular, amount

__all__ = ["Accounting", "Line", "Table", "Tabular", "amount"]
