"""Two networks against each other: one draws digits, the other tells them from handwritten ones.

Shows: manual optimisation. Each training step makes two optimizer steps; `toggled_optimizer` keeps
gradients out of the network whose turn it is not.

    python examples/train/gan.py --epochs 60
"""

import argparse
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from blixt.trainer import Module, Trainer, seed_everything


class GAN(Module):
    """A generator (batch, noise) -> (batch, 64) and a discriminator (batch, 64) -> (batch, 1)."""

    def __init__(self, noise: int = 16, width: int = 128, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = nn.Sequential(
            nn.Linear(noise, width), nn.LeakyReLU(0.2), nn.Linear(width, 64), nn.Sigmoid()
        )
        self.discriminator = nn.Sequential(
            nn.Linear(64, width), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(width, 1)
        )

    def forward(self, count: int) -> torch.Tensor:
        return self.generator(torch.randn(count, self.hparams.noise, device=self.device))

    def verdict(self, images: torch.Tensor, real: float) -> torch.Tensor:
        """How far the discriminator is from calling `images` real (1) or drawn (0)."""
        said = self.discriminator(images)
        return nn.functional.binary_cross_entropy_with_logits(said, torch.full_like(said, real))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        images = batch[0]
        of_generator, of_discriminator = self.optimizers()
        drawn = self(len(images))

        with self.toggled_optimizer(of_generator):
            generator_loss = self.verdict(drawn, real=1.0)
            of_generator.zero_grad()
            self.manual_backward(generator_loss)
            of_generator.step()

        with self.toggled_optimizer(of_discriminator):
            # 0.9: a discriminator that is never quite sure leaves the generator something to learn from.
            loss = (self.verdict(images, real=0.9) + self.verdict(drawn.detach(), real=0.0)) / 2
            of_discriminator.zero_grad()
            self.manual_backward(loss)
            of_discriminator.step()

        losses = {"generator": generator_loss, "discriminator": loss}
        self.log_dict(losses, prog_bar=True, on_step=True, on_epoch=True)

    def configure_optimizers(self) -> Any:
        rate, betas = self.hparams.learning_rate, (0.5, 0.999)
        parts = (self.generator, self.discriminator)
        return [torch.optim.Adam(part.parameters(), lr=rate, betas=betas) for part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    seed_everything(1)

    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    loader = DataLoader(TensorDataset(images), 64, shuffle=True)
    trainer = Trainer(max_epochs=arguments.epochs, default_root_dir="runs/gan")
    gan = GAN()

    def distance() -> float:
        """Between the mean drawn and the mean handwritten pixel; 0 is alike."""
        with torch.no_grad():
            return float((gan.eval()(500).cpu().mean(0) - images.mean(0)).abs().mean())

    before = distance()
    trainer.fit(gan, loader)
    samples = gan(6).detach().reshape(6, 8, 8).tolist()
    for row in zip(*samples, strict=True):
        print("   ".join("".join(" .:+*#"[min(5, int(6 * pixel))] for pixel in part) for part in row))
    steps = trainer.global_step
    print(f"{steps} optimizer steps; distance of the mean image {before:.3f} -> {distance():.3f}")


if __name__ == "__main__":
    main()
