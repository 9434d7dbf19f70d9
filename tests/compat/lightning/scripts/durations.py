"""How long training lasts: epochs, steps, minimum and maximum, should_stop."""

import json

import lightning.pytorch as pl
from lightning.pytorch.demos.boring_classes import BoringModel


class Stops(BoringModel):
    def __init__(self, at=None):
        super().__init__()
        self.at, self.epochs, self.validations = at, 0, 0

    def on_train_batch_start(self, batch, batch_idx):
        if self.at is not None and self.trainer.global_step >= self.at:
            self.trainer.should_stop = True

    def on_train_epoch_end(self):
        self.epochs += 1

    def on_validation_end(self):
        self.validations += not self.trainer.sanity_checking


def run(title, at=None, **options):
    model = Stops(at)
    options = {"limit_train_batches": 5, "limit_val_batches": 1} | options
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(model)
    answer = [trainer.global_step, trainer.current_epoch, model.epochs, model.validations]
    print(
        json.dumps(
            [title, answer, trainer.max_epochs, trainer.max_steps, trainer.min_epochs, trainer.min_steps]
        )
    )


run("epochs", max_epochs=2)
run("steps", max_steps=7)
run("both", max_epochs=2, max_steps=7)
run("both steps first", max_epochs=9, max_steps=5)
run("zero epochs", max_epochs=0)
run("zero steps", max_steps=0)
run("stop", at=3, max_epochs=3)
run("stop with min_epochs", at=3, max_epochs=4, min_epochs=2)
run("stop with min_steps", at=3, max_epochs=4, min_steps=8)
run("fast", fast_dev_run=True, max_epochs=5)
run("fast 3", fast_dev_run=3)
run("no batches", max_epochs=2, limit_train_batches=0)
run("fraction", max_epochs=1, limit_train_batches=0.25, limit_val_batches=0.5)
run("overfit", max_epochs=1, overfit_batches=2)
run("interval int", max_epochs=2, val_check_interval=2)
run("interval float", max_epochs=2, val_check_interval=0.4)
run("across", max_epochs=3, val_check_interval=4, check_val_every_n_epoch=None)
run("every 2", max_epochs=4, check_val_every_n_epoch=2)
run("time", max_time="00:00:10:00", max_epochs=1)
