"""Bare classes for mix-ins that were written against Lightning's hook classes.

blixt's `Module` and `DataModule` define the hooks themselves; these only carry the names.
"""


class ModelHooks:
    """Names what a module may override around steps, epochs and runs."""


class DataHooks:
    """Names what a module or data module may override around its loaders and batches."""


class CheckpointHooks:
    """Names what a module or data module may override around checkpoints."""
