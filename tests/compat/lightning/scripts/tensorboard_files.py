"""What the TensorBoard logger writes: folders, scalars, hyper-parameters."""

import glob
import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


class Model(BoringModel):
    def __init__(self, lr=0.1):
        super().__init__()
        self.save_hyperparameters()

    def training_step(self, batch, batch_idx):
        self.log("step", float(batch_idx) + 10)
        self.log("x", float(batch_idx), on_step=True, on_epoch=True)
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("v", 2.0)


torch.manual_seed(0)
logger = TensorBoardLogger("tb", name="n", version="v1", default_hp_metric=False)
trainer = pl.Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=logger,
    log_every_n_steps=1,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    limit_train_batches=3,
    limit_val_batches=2,
)
trainer.fit(Model())
print(
    json.dumps(
        [logger.name, logger.version, logger.log_dir, logger.root_dir, logger.save_dir, trainer.log_dir]
    )
)
for path in sorted(glob.glob("tb/**/events*", recursive=True)):
    events = EventAccumulator(path)
    events.Reload()
    for tag in sorted(events.Tags()["scalars"]):
        print(json.dumps([tag, [[e.step, e.value] for e in events.Scalars(tag)]]))
