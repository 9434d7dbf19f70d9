"""From files of text, chats, instructions and preferences to packed batches, with nothing silently lost.

`load_examples` reads any of the usual formats, `tokenize` turns examples into tokens and a mask of what is to
be learned, `pack` puts whole documents side by side into blocks, `loader` hands them to the ranks and resumes
exactly. `TokenBlocks` does the same for token shards that are too large to hold.
"""

from blixt.llm.data.blocks import Encoded, PackedBlock, Unit, block_of, empty_block, stack
from blixt.llm.data.examples import Chat, Completion, Example, Judged, Preference, Task, Text
from blixt.llm.data.fit import best_fit
from blixt.llm.data.load import load_examples, split
from blixt.llm.data.loader import Loader, loader
from blixt.llm.data.packing import Blocks, Packed, pack
from blixt.llm.data.token_blocks import TokenBlocks
from blixt.llm.data.tokenize import Report, Tokenized, prompt_ids, tokenize

__all__ = [
    "Blocks",
    "Chat",
    "Completion",
    "Encoded",
    "Example",
    "Judged",
    "Loader",
    "Packed",
    "PackedBlock",
    "Preference",
    "Report",
    "Task",
    "Text",
    "TokenBlocks",
    "Tokenized",
    "Unit",
    "best_fit",
    "block_of",
    "empty_block",
    "load_examples",
    "loader",
    "pack",
    "prompt_ids",
    "split",
    "stack",
    "tokenize",
]
