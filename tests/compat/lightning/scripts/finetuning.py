"""Backbone fine-tuning: what trains when, and with which rates."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, BaseFinetuning


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
        self.head = torch.nn.Linear(4, 1)
        self.seen = []

    def training_step(self, batch, batch_idx):
        return self.head(self.backbone(batch)).sum()

    def on_train_epoch_start(self):
        groups = self.trainer.optimizers[0].param_groups
        self.seen.append([[g["lr"] for g in groups], [len(g["params"]) for g in groups]])
        self.seen.append([p.requires_grad for p in self.backbone.parameters()])

    def configure_optimizers(self):
        return torch.optim.SGD(filter(lambda p: p.requires_grad, self.parameters()), lr=0.1)


torch.manual_seed(0)
loader = torch.utils.data.DataLoader(torch.randn(8, 4), batch_size=4)
model = Model()
callback = BackboneFinetuning(unfreeze_backbone_at_epoch=2, backbone_initial_lr=0.01, verbose=False)
trainer = pl.Trainer(
    max_epochs=5,
    accelerator="cpu",
    logger=False,
    callbacks=[callback],
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, loader)
print(json.dumps(["seen", model.seen]))
BaseFinetuning.freeze(model, train_bn=True)
print(json.dumps(["frozen", [p.requires_grad for p in model.parameters()]]))
BaseFinetuning.make_trainable(model)
print(
    json.dumps(
        [
            "trainable",
            len(list(BaseFinetuning.filter_params(model))),
            len(BaseFinetuning.flatten_modules(model)),
        ]
    )
)
