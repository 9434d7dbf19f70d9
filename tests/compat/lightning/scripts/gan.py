"""A GAN with two optimizers and toggling, and what is logged of it."""

import json

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

data = torch.randn(32, 6, generator=torch.Generator().manual_seed(4))


class GAN(pl.LightningModule):
    def __init__(self, latent=3):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = nn.Linear(latent, 6)
        self.critic = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))
        self.trainable = []

    def training_step(self, batch):
        g_opt, d_opt = self.optimizers()
        z = torch.linspace(-1, 1, len(batch) * self.hparams.latent).view(len(batch), -1)
        loss = nn.functional.binary_cross_entropy_with_logits
        self.toggle_optimizer(g_opt)
        self.trainable.append([p.requires_grad for p in self.parameters()])
        g_loss = loss(self.critic(self.generator(z)), torch.ones(len(batch), 1))
        g_opt.zero_grad()
        self.manual_backward(g_loss)
        g_opt.step()
        self.untoggle_optimizer(g_opt)
        self.toggle_optimizer(d_opt)
        self.trainable.append([p.requires_grad for p in self.parameters()])
        d_loss = loss(self.critic(batch), torch.ones(len(batch), 1))
        d_loss = d_loss + loss(self.critic(self.generator(z).detach()), torch.zeros(len(batch), 1))
        d_opt.zero_grad()
        self.manual_backward(d_loss)
        d_opt.step()
        self.untoggle_optimizer(d_opt)
        self.log_dict({"g_loss": g_loss, "d_loss": d_loss}, prog_bar=True)

    def configure_optimizers(self):
        g = torch.optim.Adam(self.generator.parameters(), lr=0.01)
        d = torch.optim.Adam(self.critic.parameters(), lr=0.02)
        return [g, d], []


pl.seed_everything(9)
model = GAN()
trainer = pl.Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(data, batch_size=8))
print(json.dumps(["metrics", {k: float(v) for k, v in trainer.callback_metrics.items()}]))
print(json.dumps(["trainable", model.trainable[:2], all(p.requires_grad for p in model.parameters())]))
print(json.dumps(["steps", trainer.global_step, [p.sum().item() for p in model.parameters()]]))
