"""What runs inside the sandbox: the zygote, and the solver and judge processes that it forks.

The zygote starts these files by path in a bare interpreter, so they import the standard library and each
other, and nothing else of codestill.
"""
