"""The `blixt` command: one file a noun, loaded only when it is called.

`main()` is the console script; `blixt --help` is printed from a table and imports nothing else.
"""

from blixt.cli.main import main

__all__ = ["main"]
