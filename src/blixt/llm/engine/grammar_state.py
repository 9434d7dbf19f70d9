"""What the engine asks of a request's format while its text is written."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from blixt.llm.errors import FormatError


class GrammarState(ABC):
    """Where one request's text stands in its format.

    Attributes:
        end_ids: Tokens that end a text.
    """

    end_ids: tuple[int, ...]

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether the text so far fits the whole format."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the text is complete and nothing but an end token may follow."""

    @property
    @abstractmethod
    def least(self) -> int | None:
        """How many tokens the shortest end of the text takes from here; None when none is known."""

    @abstractmethod
    def fill(self, row: Tensor, left: int) -> None:
        """Write which tokens may come next.

        Args:
            row: One row of the bitmask, int32 (ceil(V / 32),), overwritten.
            left: How many tokens may still be generated, this one included.
        """

    @abstractmethod
    def accept(self, token: int, left: int) -> int:
        """Go on by one token.

        Args:
            token: The one that was sampled.
            left: The same count that `fill` was given.

        Returns:
            The token to use: the sampled one, or what begins to close the text where the sampled one would
            have left too few tokens for that.

        Raises:
            LLMError: The token does not fit, so the bitmask was not applied.
        """

    @abstractmethod
    def rollback(self, count: int) -> None:
        """Take back the last `count` accepted tokens."""

    def fill_draft(self, rows: Tensor, draft: Sequence[int], left: int) -> int:
        """Write the rows of a guessed continuation, for speculation; the state stays where it was.

        Args:
            rows: Bitmask (1 + len(draft), ceil(V / 32)): row i is what may follow the first i guesses.
            draft: Guessed tokens.
            left: How many tokens may still be generated, the first guess included.

        Returns:
            How many of the guesses fit; rows behind them are not written.
        """
        accepted = fitting = 0
        for index, token in enumerate(draft):
            self.fill(rows[index], left - index)
            # A guess that accept would swap ends the draft: what follows it cannot come true.
            if not allowed(rows[index], token):
                break
            accepted += 1
            if self.accept(token, left - index) != token:
                break
            fitting += 1
            if token in self.end_ids:
                break
        else:
            self.fill(rows[fitting], left - fitting)
        self.rollback(accepted)
        return fitting

    def check_room(self, left: int) -> None:
        """Refuse a request whose answer could not be whole.

        Args:
            left: How many tokens it may generate.

        Raises:
            FormatError: Fewer than the shortest text takes.
        """
        if self.least is not None and self.least > left:
            raise FormatError(
                f"the shortest answer of this format takes {self.least} tokens, and there is room for {left}:"
                " raise max_tokens, or shorten the prompt"
            )


def allowed(row: Tensor, token: int) -> bool:
    """Whether a bitmask row allows a token."""
    return bool((int(row[token // 32]) >> (token % 32)) & 1)


def allowing(row: Tensor, token: int) -> None:
    """Allow one token more in a bitmask row."""
    word, bit = divmod(token, 32)
    row[word] |= 1 << bit if bit < 31 else -(1 << 31)
