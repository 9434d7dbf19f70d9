"""Three epochs in one go and one plus two after a resume: the same weights."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

data = torch.randn(24, 32, generator=torch.Generator().manual_seed(1))


class Model(BoringModel):
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


def train(epochs, ckpt=None):
    torch.manual_seed(5)
    checkpoint = ModelCheckpoint(dirpath=".", filename=f"e{epochs}")
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=[checkpoint],
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Model()
    trainer.fit(model, DataLoader(data, batch_size=4), ckpt_path=ckpt)
    return trainer, model, checkpoint.best_model_path


whole = train(3)
first = train(1)
rest = train(3, first[2])
print(json.dumps(["weights", whole[1].layer.weight.tolist(), rest[1].layer.weight.tolist()]))
print(json.dumps(["equal", torch.equal(whole[1].layer.weight, rest[1].layer.weight)]))
print(json.dumps(["steps", whole[0].global_step, first[0].global_step, rest[0].global_step]))
print(json.dumps(["rate", rest[0].optimizers[0].param_groups[0]["lr"]]))
