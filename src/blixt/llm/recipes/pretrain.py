"""Pretrain a small decoder from scratch: token shards in, a checkpoint directory out.

Read it from the bottom: `pretrain` builds the parts, `Pretraining` says what a step is, `Blocks` streams the
shards. It resumes by itself: started again on the same checkpoint folder it goes on at the next step, with
the same data order, learning rate and random state, on any number of ranks.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blixt.data.torch import DataLoader
from blixt.fabric import seed_everything
from blixt.llm.config import ModelConfig, preset
from blixt.llm.model import GPT
from blixt.llm.shards import open_tokens
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import save_checkpoint
from blixt.trainer import DataModule, ModelCheckpoint, Module, ProgressBar, ThroughputMonitor, Trainer

WARMUP = 0.1  # share of the steps over which the learning rate rises
FINAL = 0.1  # share of the learning rate that is left at the end
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)
CLIP = 1.0
VAL_BATCHES = 8
LOGGED_STEPS = 500  # rows of metrics a run sends at most, the first step among them


class Blocks(DataModule):
    """Blocks of tokens, (B, block_size + 1): each input has its target one further on."""

    def __init__(self, data: str | Path, batch_size: int, block_size: int, seed: int) -> None:
        super().__init__()
        self.data, self.batch_size, self.block_size, self.seed = data, batch_size, block_size, seed

    def train_dataloader(self) -> DataLoader:
        """This rank's share of each global batch, shuffled."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader:
        """This rank's share of the held-out text; the same blocks each time."""
        return self._loader("val")

    def _loader(self, part: str) -> DataLoader:
        assert self.trainer is not None, "loaders are asked for by a trainer"
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        dataset = open_tokens(self.data, part, self.block_size, seed=self.seed, rank=rank, world_size=ranks)
        return DataLoader(dataset, max(1, min(self.batch_size, len(dataset)) // ranks))


class Pretraining(Module):
    """Next-token prediction with AdamW, warm-up and cosine decay."""

    def __init__(self, config: ModelConfig, steps: int, learning_rate: float) -> None:
        super().__init__()
        self.model = GPT(config)
        self.steps, self.learning_rate = steps, learning_rate

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Mean cross-entropy, in nats per token."""
        loss = self.model.loss(batch[:, :-1], batch[:, 1:])
        self.log("loss", loss, prog_bar=True)
        self.log("learning_rate", self.learning_rate * self.schedule(self.global_step))
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """The same on held-out text."""
        loss = self.model.loss(batch[:, :-1], batch[:, 1:])
        self.log("val_loss", loss, prog_bar=True, sync_dist=True, batch_size=len(batch))

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW that decays matrices but not norms; the schedule moves every step."""
        matrices = [p for p in self.parameters() if p.dim() >= 2]
        vectors = [p for p in self.parameters() if p.dim() < 2]
        groups = [
            {"params": matrices, "weight_decay": WEIGHT_DECAY},
            {"params": vectors, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=BETAS, fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def schedule(self, step: int) -> float:
        """Factor on the learning rate: linear warm-up, then cosine decay to `FINAL`."""
        warmup = max(1, round(WARMUP * self.steps))
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, self.steps - warmup))
        return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * progress))


def pretrain(
    data: str | Path,
    *,
    out: str | Path | None = None,
    preset: str = "demo",
    steps: int = 300,
    batch_size: int = 16,
    block_size: int = 128,
    learning_rate: float = 3e-3,
    precision: str = "32",
    devices: int | str = "auto",
    seed: int = 0,
    val_every: int = 50,
    checkpoint_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Pretrain a model on a folder that `prepare` wrote.

    Args:
        data: The prepared folder: train, val and tokenizer.json.
        out: Checkpoint directory for the best model; None takes BLIXT_MODEL_OUT, else "model".
        preset: Size of the model, see `blixt.llm.PRESETS`.
        steps: Optimizer steps.
        batch_size: Blocks a step, over all ranks.
        block_size: Tokens a block.
        learning_rate: Its highest value.
        precision: "32", "bf16-mixed" or "16-mixed".
        devices: Ranks to start on this machine; "auto" is every GPU, or one rank on the CPU. Leave it when
            torchrun or the cloud starts the ranks.
        seed: Of weights and data order.
        val_every: Steps between two measurements on held-out text.
        checkpoint_dir: Where to keep what a restart resumes from; None is "checkpoints" beside `out`.

    Returns:
        `val_loss` (the best, in nats per token), `steps`, `tokens`, `parameters`.

    Raises:
        LLMError: The preset, the tokenizer or a size is wrong.
        DataError: The prepared folder is not one.
    """
    folder = Path(out or os.environ.get("BLIXT_MODEL_OUT") or "model")
    checkpoints = Path(checkpoint_dir or folder.parent / "checkpoints")
    tokenizer = Tokenizer.load(Path(data))
    config = configure(preset, tokenizer, block_size)
    seed_everything(seed)
    module = Pretraining(config, steps, learning_rate)
    best = ModelCheckpoint(dirpath=checkpoints, monitor="val_loss", save_last=True)
    trainer = Trainer(
        devices=devices,
        precision=precision,
        max_steps=steps,
        val_check_interval=min(val_every, steps),
        check_val_every_n_epoch=None,
        limit_val_batches=VAL_BATCHES,
        num_sanity_val_steps=0,
        log_every_n_steps=max(1, steps // LOGGED_STEPS),
        gradient_clip_val=CLIP,
        callbacks=[best, ProgressBar(), ThroughputMonitor()],
        default_root_dir=checkpoints,
    )
    trainer.fit(module, datamodule=Blocks(data, batch_size, block_size, seed), ckpt_path="auto")
    metrics = {
        "val_loss": float(min(best.best_k_models.values())),
        "steps": trainer.global_step,
        "tokens": trainer.global_step * batch_size * block_size,
        "parameters": config.parameters(),
    }
    if trainer.is_global_zero:
        export(module, best.best_model_path, folder, tokenizer, metrics)
    trainer.fabric.barrier()
    return metrics


def configure(name: str, tokenizer: Tokenizer, block_size: int) -> ModelConfig:
    """The preset with this tokenizer's vocabulary and at least `block_size` of context."""
    size = preset(name)
    return preset(name, vocab=len(tokenizer), eos=tokenizer.eos, context=max(size.context, block_size))


def export(
    module: Pretraining, best: str, folder: Path, tokenizer: Tokenizer, metrics: dict[str, Any]
) -> None:
    """Write the best weights seen as a checkpoint directory that `LLM.load` and transformers read."""
    state = torch.load(best, map_location="cpu", weights_only=False)["state_dict"]
    module.cpu().load_state_dict(state)
    save_checkpoint(module.model, folder)
    tokenizer.save(folder / "tokenizer.json")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
