"""What programs read of a running trainer."""

import json

import lightning.pytorch as pl
from lightning.pytorch.demos.boring_classes import BoringModel


class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.seen = []

    def look(self, where):
        t = self.trainer
        self.seen.append(
            [
                where,
                str(t.state.fn),
                str(t.state.stage),
                t.training,
                t.validating,
                t.testing,
                t.predicting,
                t.evaluating,
                t.sanity_checking,
                t.global_step,
                t.current_epoch,
                t.is_last_batch if t.training else None,
            ]
        )

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.look("train")
        loop = self.trainer.fit_loop
        epoch = loop.epoch_loop
        self.seen.append(
            [
                batch_idx,
                epoch.batch_idx,
                epoch.global_step,
                epoch.total_batch_idx,
                loop.max_epochs,
                epoch.batch_progress.current.ready,
                epoch.batch_progress.total.ready,
                epoch.batch_progress.current.completed,
            ]
        )

    def on_validation_batch_end(self, *_):
        self.look("val")

    def on_test_batch_end(self, *_):
        self.look("test")

    def on_predict_batch_end(self, *_):
        self.look("predict")

    def on_train_epoch_end(self):
        self.look("epoch")


trainer = pl.Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    limit_train_batches=2,
    limit_val_batches=1,
    limit_test_batches=1,
    limit_predict_batches=1,
)
model = Model()
print(
    json.dumps(
        ["before", trainer.global_step, trainer.current_epoch, str(trainer.state.status), trainer.num_devices]
    )
)
trainer.fit(model)
trainer.test(model, verbose=False)
trainer.predict(model)
print(json.dumps(model.seen))
print(
    json.dumps(
        [
            trainer.world_size,
            trainer.global_rank,
            trainer.local_rank,
            trainer.node_rank,
            trainer.num_nodes,
            trainer.device_ids,
            trainer.is_global_zero,
            trainer.precision,
            trainer.log_dir is not None,
        ]
    )
)
print(
    json.dumps(
        [
            type(trainer.strategy).__name__,
            type(trainer.accelerator).__name__,
            trainer.interrupted,
            trainer.enable_validation,
            trainer.max_epochs,
            trainer.num_sanity_val_batches,
            trainer.num_test_batches,
        ]
    )
)
print(
    json.dumps(
        [
            trainer.fit_loop.epoch_loop.batch_progress.current.completed,
            len(trainer.num_val_batches),
            trainer.lightning_module is model,
        ]
    )
)
