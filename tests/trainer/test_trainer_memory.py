"""What a trainer that is kept does not keep alive."""

import contextlib
import gc
import itertools
import weakref
from typing import Any

from .samples import make_loader
from .test_trainer_step import Net


def test_a_fit_keeps_neither_batch_nor_graph_however_it_ends(trainer: Any) -> None:
    gc.freeze()  # what other tests have left, which is a lot
    seen: dict[str, Any] = {}

    class Watched(Net):
        fails_at: int | None = None
        plain = True

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            hidden = self.layer(batch[0])
            seen.update(batch=weakref.ref(batch[0]), hidden=weakref.ref(hidden))
            if batch_idx == self.fails_at:
                raise ArithmeticError("on purpose")
            loss = hidden.mean()
            seen["loss"] = weakref.ref(loss)
            return loss if self.plain else {"loss": loss}

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            seen["validated"] = weakref.ref(batch[0])
            if self.fails_at == -1:
                raise ArithmeticError("on purpose")

    runs = []  # keeps the trainers
    kept: list[dict[str, Any]] = []
    for fails_at, plain in itertools.product((None, 2, -1), (True, False)):
        module = Watched()
        module.fails_at, module.plain = fails_at, plain
        runs.append(trainer(max_epochs=1, num_sanity_val_steps=0))
        with contextlib.suppress(ArithmeticError):
            runs[-1].fit(module, make_loader(12), make_loader(4))
        kept.append(dict(seen))
    gc.collect()  # once: it looks through all that is not frozen
    gc.unfreeze()
    assert [[name for name, part in each.items() if part() is not None] for each in kept] == [[]] * len(kept)
