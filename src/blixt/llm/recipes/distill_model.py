"""A student with its teacher, and the divergence between them on packed blocks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from blixt.llm.attention import Context, Packed
from blixt.llm.config import ModelConfig, preset
from blixt.llm.data import PackedBlock
from blixt.llm.errors import RecipeError
from blixt.llm.losses import Distillation, distillation_loss, token_loss
from blixt.llm.model import GPT
from blixt.llm.parallel import ContextParallel
from blixt.llm.recipes.adapt import adapt_model, base_config, load_base
from blixt.llm.recipes.resume import load_best
from blixt.llm.recipes.training import Trained, keep_buffers
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import save_checkpoint

if TYPE_CHECKING:
    from blixt.llm.recipes.distill import DistillConfig


class StudentModel(Trained):
    """The student, its teacher and the loss as one module, because strategies see only `forward`.

    Args:
        model: The student.
        teacher: Frozen, of the same vocabulary.
        settings: Which divergence.
        cp: Divides sequences among ranks; None keeps them whole.
    """

    def __init__(
        self, model: GPT, teacher: GPT, settings: Distillation, cp: ContextParallel | None = None
    ) -> None:
        super().__init__()
        self.cp = cp
        self.model, self.teacher, self.settings = model, teacher, settings
        keep_buffers(self)

    def forward(self, block: PackedBlock, count: Tensor | float = 1.0) -> Tensor:
        """Summed loss of a block's loss positions over `count`, a scalar.

        In training that is the divergence (and its share of cross-entropy); in evaluation the plain
        cross-entropy of the data, which compares with training alone.

        Args:
            block: (B, T).
            count: What to divide by: the loss positions of the whole step, say.
        """
        ctx: Context = Packed(block.documents)
        if self.cp is not None:
            block, ctx = self.cp.share(block)
        hidden = self.model.hidden(block.tokens, ctx)
        if not self.training:
            return token_loss(self.model, hidden, block.targets, block.mask, count=count)
        with torch.no_grad():
            taught = self.teacher.hidden(block.tokens, ctx)
        return distillation_loss(
            self.model,
            hidden,
            self.teacher,
            taught,
            block.targets,
            block.mask,
            settings=self.settings,
            count=count,
        )

    def train(self, mode: bool = True) -> "StudentModel":
        """Training mode for the student; the teacher never has it."""
        super().train(mode)
        self.teacher.eval()
        return self


def make_student(config: "DistillConfig", tokenizer: Tokenizer) -> GPT:
    """The student, from its checkpoint or fresh, with the teacher's vocabulary.

    Raises:
        RecipeError: The student reads other tokens than the teacher.
    """
    shape = base_config(config.teacher)
    if config.model is None:
        changes = {**config.sizes, "vocab": shape.vocab, "eos": shape.eos, "bos": shape.bos}
        context = max(preset(config.preset, **config.sizes).context, config.block_size)
        return GPT(preset(config.preset, **{"context": context, **changes})).train()
    if Tokenizer.load(config.model).inner.get_vocab() != tokenizer.inner.get_vocab():
        raise RecipeError(
            f"{config.model} and its teacher {config.teacher} have different vocabularies, so their "
            "probabilities cannot be compared: let the teacher write answers and learn from those"
        )
    base = load_base(config.model, config.adapt, config.precision, config.quantize)
    return adapt_model(base, config.adapt, config.lora)


def export_fresh(
    shape: ModelConfig, weights: Path, out: str | Path, tokenizer: Tokenizer, metrics: Mapping[str, Any]
) -> None:
    """Write a student that began without a checkpoint; one rank calls it."""
    model = GPT.empty(shape, device="cpu")
    load_best(weights, model, inside="model.")
    save_checkpoint(model, out)
    tokenizer.save(Path(out))
    (Path(out) / "metrics.json").write_text(json.dumps(dict(metrics), indent=2) + "\n", "utf-8")
