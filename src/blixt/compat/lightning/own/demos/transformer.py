"""A small encoder-decoder language model, made of torch's own transformer."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from blixt.compat.lightning.own.demos.wikitext import WikiText2
from blixt.trainer import Module

WIKITEXT2_WORDS = 33278
"""How many different words WikiText-2 has."""


class PositionalEncoding(nn.Module):
    """Adds sines and cosines of each position, then drops some.

    Args:
        dim: Numbers a word.
        dropout: Share of numbers that is set to zero in training.
        max_len: The longest sequence.
    """

    def __init__(self, dim: int, dropout: float = 0.1, max_len: int = 5000) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dim = dim
        self.max_len = max_len
        self.pe: Tensor | None = None  # neither buffer nor parameter: state dicts stay Lightning's

    def forward(self, x: Tensor) -> Tensor:
        """`x` of the shape (batch, words, dim), with its positions."""
        if self.pe is None or self.pe.device != x.device:
            self.pe = self._waves(x.device)
        return self.dropout(x + self.pe[:, : x.size(1)].to(x.dtype))

    def _waves(self, device: torch.device) -> Tensor:
        position = torch.arange(self.max_len, dtype=torch.float32, device=device).unsqueeze(1)
        even = torch.arange(0, self.dim, 2, dtype=torch.float32, device=device)
        angle = position * torch.exp(even * (-math.log(10_000.0) / self.dim))
        waves = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)
        return waves[:, : self.dim].unsqueeze(0)


class Transformer(nn.Module):
    """An encoder and a decoder over words; the decoder sees no later word.

    Args:
        vocab_size: Different words.
        ninp: Numbers a word.
        nhead: Heads of attention.
        nhid: Width of the feed-forward layers.
        nlayers: Layers of the encoder, and of the decoder.
        dropout: Share of numbers that is set to zero in training.
    """

    def __init__(
        self,
        vocab_size: int = WIKITEXT2_WORDS,
        ninp: int = 200,
        nhead: int = 2,
        nhid: int = 200,
        nlayers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.ninp = ninp
        self.vocab_size = vocab_size
        self.pos_encoder = PositionalEncoding(ninp, dropout)
        self.embedding = nn.Embedding(vocab_size, ninp)
        self.transformer = nn.Transformer(
            d_model=ninp,
            nhead=nhead,
            num_encoder_layers=nlayers,
            num_decoder_layers=nlayers,
            dim_feedforward=nhid,
            dropout=dropout,
            batch_first=True,
        )
        self.decoder = nn.Linear(ninp, vocab_size)

    def generate_square_subsequent_mask(self, size: int) -> Tensor:
        """Minus infinity where a word is later than its reader, else 0; of the shape (size, size)."""
        return torch.full((size, size), float("-inf")).triu(diagonal=1)

    def forward(self, inputs: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probabilities of the shape (batch * words, vocab_size).

        Args:
            inputs: Word numbers of the shape (batch, words).
            target: The same, of what the decoder reads.
            mask: Added to the decoder's attention; default hides later words.
        """
        if mask is None:
            mask = self.generate_square_subsequent_mask(inputs.size(1)).to(inputs.device)
        scale = math.sqrt(self.ninp)
        read = self.pos_encoder(self.embedding(inputs) * scale)
        written = self.pos_encoder(self.embedding(target) * scale)
        output = self.decoder(self.transformer(read, written, tgt_mask=mask))
        return functional.log_softmax(output, dim=-1).view(-1, self.vocab_size)


class LightningTransformer(Module):
    """The transformer as a module that trains on WikiText-2."""

    def __init__(self, vocab_size: int = WIKITEXT2_WORDS) -> None:
        super().__init__()
        self.model = Transformer(vocab_size=vocab_size)

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        """The model's log-probabilities."""
        return self.model(inputs, target)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Negative log-likelihood of the targets."""
        inputs, target = batch
        return functional.nll_loss(self(inputs, target), target.reshape(-1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain gradient descent."""
        return torch.optim.SGD(self.model.parameters(), lr=0.1)

    def prepare_data(self) -> None:
        """Fetch WikiText-2 into `./data` when it is not there."""
        WikiText2(download=True)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """WikiText-2, one block a batch."""
        return DataLoader(WikiText2())
