"""Random numbers that a program draws around and inside of runs are the ones it drew under Lightning."""

import json

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).pow(2).mean()
        self.seen.append([batch[0, 0].item(), loss.item()])
        return loss

    def validation_step(self, batch, batch_idx):
        self.seen.append([batch[0, 0].item(), torch.rand(1).item()])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


pl.seed_everything(5)
data = torch.randn(12, 3)
options = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
for kind in (
    {"max_epochs": 2, "limit_val_batches": 0},
    {"max_epochs": 2, "num_sanity_val_steps": 0},
    {"max_epochs": 2},
    {"max_epochs": 2, "val_check_interval": 2},
    {"max_epochs": 1, "limit_train_batches": 2},
    {"max_steps": 2},
):
    model = Model()
    trainer = pl.Trainer(**kind, **options)
    trainer.fit(model, DataLoader(data, batch_size=4, shuffle=True), DataLoader(data, batch_size=6))
    print(json.dumps([str(kind), model.seen, torch.rand(1).item()]))
trainer.validate(model, DataLoader(data, batch_size=6), verbose=False)
print(json.dumps(["validate", torch.rand(1).item()]))
