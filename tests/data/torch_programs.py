"""Programs that run as processes of their own in the tests of torch, Lightning and accelerate."""

import json
import sys
from pathlib import Path
from typing import Any


def lightning_run(folder: str, root: str, stop_at: int, seen: str) -> None:
    """Train on a dataset with Lightning, resuming from the last checkpoint in `root`; note what was seen."""
    import lightning
    import torch

    from blixt.data import TokenDataset
    from blixt.data.torch import DataLoader

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch: Any, index: int) -> Any:
            with open(f"{seen}-{self.global_rank}", "a") as out:
                out.write(json.dumps(batch[:, 0].tolist()) + "\n")
            return (self.weight * batch.float().mean()).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    torch.set_num_threads(1)
    last = Path(root) / "last.ckpt"
    trainer = lightning.Trainer(
        max_steps=stop_at,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(TokenDataset(folder, 10, shuffle=True, seed=5), 8, num_workers=2)
    trainer.fit(Model(), loader, ckpt_path=str(last) if last.exists() else None, weights_only=False)
    trainer.save_checkpoint(last)
    loader.close()


def accelerate_run(folder: str, out: str) -> None:
    """Read an epoch under accelerate, one of several ranks, in each form; write what this rank saw."""
    import torch
    from accelerate import Accelerator
    from torch.utils.data import DataLoader as TorchLoader

    from blixt.data import TokenDataset
    from blixt.data.torch import DataLoader, IterableDataset

    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    every_row = {"rank": 0, "world_size": 1}  # accelerate shares out by itself what it prepares of torch's
    forms: dict[str, Any] = {
        "ours": DataLoader(TokenDataset(folder, 10, shuffle=True), 8, end="even"),
        "map": TorchLoader(TokenDataset(folder, 10, **every_row), 8, shuffle=True),
        "iterable": TorchLoader(IterableDataset(TokenDataset(folder, 10, shuffle=True, **every_row)), 8),
    }
    for form, loader in forms.items():
        seen = [int(x) for batch in accelerator.prepare(loader) for x in batch[:, 0]]
        Path(f"{out}-{form}-{accelerator.process_index}").write_text(json.dumps(seen))
    accelerator.end_training()


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name == "lightning":
        for stop_at in (9, 30):  # a new trainer, model and loader each time, as in a new process
            lightning_run(arguments[0], arguments[1], stop_at, arguments[2])
    else:
        accelerate_run(*arguments)
