"""Two ranks: what they train on, what they log together, what rank 0 keeps."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.seen = []

    def training_step(self, batch, batch_idx):
        x, index = batch
        self.seen.append(index.tolist())
        loss = (self.layer(x) - index[:, None]).pow(2).mean()
        self.log("loss", loss, sync_dist=True, on_epoch=True, on_step=False)
        self.log(
            "own", float(self.global_rank), on_epoch=True, on_step=False, sync_dist=True, reduce_fx="sum"
        )
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("v", batch[1].float().mean(), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


pl.seed_everything(3)
index = torch.arange(16)
data = TensorDataset(torch.randn(16, 2), index)
checkpoint = ModelCheckpoint(dirpath="checkpoints", monitor="v")
trainer = pl.Trainer(
    max_epochs=2,
    accelerator="cpu",
    devices=2,
    strategy="ddp",
    logger=False,
    callbacks=[checkpoint],
    enable_progress_bar=False,
    enable_model_summary=False,
)
model = Model()
trainer.fit(model, DataLoader(data, batch_size=2, shuffle=True), DataLoader(data, batch_size=4))
gathered = model.all_gather(torch.tensor(float(model.global_rank)))
facts = [
    {name: round(float(value), 5) for name, value in sorted(trainer.callback_metrics.items())},
    [round(value, 5) for value in model.layer.weight.flatten().tolist()],
    model.seen,
    trainer.world_size,
    trainer.global_step,
    trainer.num_training_batches,
    gathered.flatten().tolist(),
    checkpoint.best_model_path.rpartition("/")[2],
]
if trainer.is_global_zero:
    print(json.dumps(facts))
