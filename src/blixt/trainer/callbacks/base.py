"""What a trainer has to recognise among its callbacks, whoever wrote them."""

from blixt.trainer.callback import Callback


class Checkpoint(Callback):
    """Base of callbacks that save checkpoints.

    The trainer runs them after all other callbacks, so that they save what the others did, and adds a
    `ModelCheckpoint` of its own only when there is none of this kind.
    """
