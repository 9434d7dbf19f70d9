"""A small recurrent language model that carries its state from batch to batch."""

from collections.abc import Iterator, Sized

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Sampler

from blixt.compat.lightning.own.demos.transformer import WIKITEXT2_WORDS
from blixt.compat.lightning.own.demos.wikitext import WikiText2
from blixt.trainer import Module

Hidden = tuple[Tensor, Tensor]


class SimpleLSTM(nn.Module):
    """An embedding, an LSTM and a layer that scores the next word.

    Args:
        vocab_size: Different words.
        ninp: Numbers a word.
        nhid: Numbers of a hidden state.
        nlayers: Layers of the LSTM.
        dropout: Share of numbers that is set to zero in training.
    """

    def __init__(
        self,
        vocab_size: int = WIKITEXT2_WORDS,
        ninp: int = 512,
        nhid: int = 512,
        nlayers: int = 4,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.vocab_size, self.nhid, self.nlayers = vocab_size, nhid, nlayers
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, ninp)
        self.rnn = nn.LSTM(ninp, nhid, nlayers, dropout=dropout, batch_first=True)
        self.decoder = nn.Linear(nhid, vocab_size)
        self.init_weights()

    def init_weights(self) -> None:
        """Small uniform weights for words on the way in and out."""
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Log-probabilities of the shape (batch * words, vocab_size), and the new state."""
        output, hidden = self.rnn(self.drop(self.encoder(input)), hidden)
        scores = self.decoder(self.drop(output)).view(-1, self.vocab_size)
        return functional.log_softmax(scores, dim=1), hidden

    def init_hidden(self, batch_size: int) -> Hidden:
        """Zeros, of the shapes (layers, batch, nhid)."""
        zeros = self.decoder.weight.new_zeros(self.nlayers, batch_size, self.nhid)
        return zeros, zeros.clone()


class SequenceSampler(Sampler[list[int]]):
    """Batches whose samples each follow the sample at the same place of the batch before.

    Args:
        dataset: Anything with a length.
        batch_size: Samples a batch; those beyond a multiple of it are left out.
    """

    def __init__(self, dataset: Sized, batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.chunk_size = len(dataset) // batch_size

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(self.chunk_size):
            yield [first + row * self.chunk_size for row in range(self.batch_size)]

    def __len__(self) -> int:
        return self.chunk_size


class LightningLSTM(Module):
    """The LSTM as a module that trains on WikiText-2, its state cut from the graph between batches."""

    def __init__(self, vocab_size: int = WIKITEXT2_WORDS) -> None:
        super().__init__()
        self.model = SimpleLSTM(vocab_size=vocab_size)
        self.hidden: Hidden | None = None

    def on_train_epoch_end(self) -> None:
        """The next epoch begins at the text's beginning."""
        self.hidden = None

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Negative log-likelihood of the next words."""
        words, target = batch
        hidden = self.model.init_hidden(words.size(0)) if self.hidden is None else self.hidden
        output, self.hidden = self.model(words, (hidden[0].detach(), hidden[1].detach()))
        loss = functional.nll_loss(output, target.reshape(-1))
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def prepare_data(self) -> None:
        """Fetch WikiText-2 into `./data` when it is not there."""
        WikiText2(download=True)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """WikiText-2 in 20 columns that are read side by side."""
        dataset = WikiText2()
        return DataLoader(dataset, batch_sampler=SequenceSampler(dataset, batch_size=20))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=20.0)
