"""Where commands print."""

import sys

from codestill.terminal import Terminal

# Where no terminal says how wide it is, tables keep their columns whole.
console = Terminal(width=None if sys.stdout.isatty() else 150)
