"""A character model of Python's own documentation strings, sharded over data and layers on four CPU ranks.

    python examples/fabric/fsdp_tp.py --devices 4 --tp 2

Two ranks share each layer (tensor parallel), and each pair keeps half of every parameter (FSDP2). With
--devices 1 the same script trains in one piece. The checkpoint is a directory that any number of ranks reads;
at the end it is put together into one file.
"""

import argparse
import sysconfig
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from blixt.fabric import Fabric, Parallel, ParallelStrategy, consolidate

PLAN = {"blocks.*.up": "colwise", "blocks.*.down": "rowwise"}
CONTEXT = 32


class Block(nn.Module):
    """Attention over the characters so far, then two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        x = x + self.attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]
        return x + self.down(torch.relu(self.up(x)))


class CharModel(nn.Module):
    """Next character from the last ones."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, width)
        self.place = nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.head = nn.Linear(width, 128)

    def forward(self, characters: torch.Tensor) -> torch.Tensor:
        x = self.embed(characters) + self.place(torch.arange(characters.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def text() -> torch.Tensor:
    """The library's `argparse` module, as numbers below 128."""
    source = Path(sysconfig.get_path("stdlib"), "argparse.py").read_bytes()
    return torch.tensor([byte for byte in source if byte < 128])


def batch(characters: torch.Tensor, step: int, part: int, parts: int) -> torch.Tensor:
    """This part's share of the 16 pieces of text of one step; ranks that share layers get the same."""
    draw = torch.Generator().manual_seed(step)
    begins = torch.randint(0, len(characters) - CONTEXT - 1, (16,), generator=draw).chunk(parts)[part]
    return torch.stack([characters[begin : begin + CONTEXT + 1] for begin in begins.tolist()])


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--devices", type=int, default=4)
    options.add_argument("--tp", type=int, default=2)
    options.add_argument("--steps", type=int, default=60)
    args = options.parse_args()

    sizes = Parallel(tp=args.tp if args.devices > 1 else 1)
    strategy = ParallelStrategy(sizes, plan=PLAN if args.devices > 1 else None, state_dict_type="sharded")
    fabric = Fabric(accelerator="cpu", devices=args.devices, strategy=strategy)
    fabric.launch()
    fabric.seed_everything(0)
    module = CharModel()
    model, optimizer = fabric.setup(module, torch.optim.AdamW(module.parameters(), lr=3e-3))
    characters = text()
    part, parts = fabric.strategy.data_parallel_rank, fabric.strategy.data_parallel_size
    for step in range(args.steps):
        piece = batch(characters, step, part, parts)
        loss = cross_entropy(model(piece[:, :-1]).flatten(0, 1), piece[:, 1:].flatten())
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=1.0)
        optimizer.step()
        if step % 20 == 0 or step == args.steps - 1:
            fabric.print(f"step {step}: loss {float(fabric.all_reduce(loss.detach())):.3f}")
    folder = Path(fabric.broadcast(tempfile.mkdtemp()))
    fabric.save(folder / "last.ckpt", {"model": model, "optimizer": optimizer, "step": args.steps})
    if fabric.is_global_zero:
        whole = torch.load(consolidate(folder / "last.ckpt"), weights_only=True)
        CharModel().load_state_dict(whole["model"])
        print(f"{len(whole['model'])} tensors of {args.devices} rank(s) in one file")


if __name__ == "__main__":
    main()
