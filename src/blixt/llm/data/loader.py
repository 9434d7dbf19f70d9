"""Batches of packed blocks for each rank, and where a run stands in them."""

from collections.abc import Iterator
from typing import Any

from blixt.llm.data.blocks import PackedBlock, empty_block, stack
from blixt.llm.data.packing import Blocks
from blixt.llm.errors import LLMError


class Loader:
    """Iterates over packed blocks, a batch a step for this rank.

    All ranks walk through one sequence of blocks, epoch after epoch: a step takes the next
    `batch_size * world_size` of them, and each rank its part. So the state is one number, it is exact in the
    middle of an epoch, and it loads under any other world size or batch size. A batch may hold the end of one
    epoch and the beginning of the next; only the last batch of the last epoch is filled with empty blocks.

    Args:
        blocks: `Packed` documents or `TokenBlocks`.
        batch_size: Rows a rank gets a step.
        rank: This process.
        world_size: Processes.
        epochs: Ends after so many; None goes on for ever.
        drop_last: Leave out the last batch of the last epoch when it is not full.

    Example:
        ```python
        data = Loader(blocks, batch_size=4, epochs=3)
        for batch in data:  # PackedBlock of (4, T)
            ...
        saved = data.state_dict()  # after any step
        ```
    """

    def __init__(
        self,
        blocks: Blocks,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        epochs: int | None = None,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise LLMError(
                f"Loader(batch_size={batch_size}, rank={rank}, world_size={world_size}): batch_size must be "
                "at least 1, and rank from 0 to world_size - 1"
            )
        self.blocks, self.batch_size, self.rank, self.world_size = blocks, batch_size, rank, world_size
        self.epochs, self.drop_last = epochs, drop_last
        self.epoch, self.index = 0, 0

    @property
    def step_blocks(self) -> int:
        """Blocks that a step takes over all ranks."""
        return self.batch_size * self.world_size

    @property
    def exhausted(self) -> bool:
        """Whether the last epoch is over."""
        return self.epochs is not None and self.epoch >= self.epochs

    def steps_left(self) -> int:
        """How many batches are left.

        Raises:
            LLMError: The loader goes on for ever.
        """
        if self.epochs is None:
            raise LLMError("this loader has no end: give it epochs")
        blocks = sum(self.blocks.count(epoch) for epoch in range(self.epoch, self.epochs)) - self.index
        whole, rest = divmod(max(0, blocks), self.step_blocks)
        return whole + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[PackedBlock]:
        """Batches from where the loader stands; a second iteration goes on there."""
        while not self.exhausted:
            rows = self._take()
            if len(rows) < self.step_blocks and self.drop_last:
                return
            mine = rows[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            found = [self.blocks.block(epoch, index) for epoch, index in mine]
            found += [empty_block(self.blocks.length)] * (self.batch_size - len(found))
            yield stack(found)

    def restart(self) -> None:
        """Go back to the first block of the first epoch, as validation does each time."""
        self.epoch = self.index = 0

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands: the epoch, and its blocks that all ranks together have taken."""
        return {"epoch": self.epoch, "index": self.index, "blocks": self.blocks.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another loader over the same blocks stood, whatever its ranks and batch size.

        Raises:
            LLMError: The blocks are not those of the state.
        """
        if state["blocks"] != self.blocks.identity():
            raise LLMError(
                "the run was stopped on other data: the examples, their order, the block length or the seed "
                "have changed, so it cannot go on where it was; restore them, or start anew"
            )
        self.epoch, self.index = state["epoch"], state["index"]

    def _take(self) -> list[tuple[int, int]]:
        """The next step's blocks over all ranks, fewer at the very end."""
        rows: list[tuple[int, int]] = []
        while len(rows) < self.step_blocks and not self.exhausted:
            count = self.blocks.count(self.epoch)
            take = min(self.step_blocks - len(rows), count - self.index)
            rows += [(self.epoch, index) for index in range(self.index, self.index + take)]
            self.index += take
            if self.index >= count:
                self.epoch, self.index = self.epoch + 1, 0
        return rows


def loader(blocks: Blocks, batch_size: int, **options: Any) -> Loader:
    """A `Loader` over `blocks`; options are its arguments."""
    return Loader(blocks, batch_size, **options)
