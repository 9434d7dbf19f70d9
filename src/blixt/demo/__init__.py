"""The tour: from an empty machine to a trained, served, billed model, through the public CLI and SDK only.

`python -m blixt.demo` (or `make demo`, or `blixt demo`) prints every command so that it can be repeated by
hand, checks what each one promises, and ends with an error at the first thing that is not true.
"""

from blixt.demo.main import main

__all__ = ["main"]
