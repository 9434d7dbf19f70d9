"""From text files to token blocks: write shards with worker processes, read them shuffled, go on exactly.

    python examples/data/token_shards.py [FOLDER]

The corpus is the source of Python's own standard library and the "tokenizer" is UTF-8 bytes, so that this
needs nothing but blixt. It takes about a second.
"""

import json
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

from blixt.data import Loader, TokenDataset, Tokens, optimize, verify

END_OF_DOCUMENT = 256


def tokenize(path: Path) -> Tokens:
    """Turn one file into one document."""
    ids = np.frombuffer(path.read_bytes(), np.uint8).astype(np.uint16)
    return Tokens(np.append(ids, END_OF_DOCUMENT), dtype="uint16")


def main(folder: Path) -> None:
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    snapshot = optimize(tokenize, files, folder, num_workers=2, mode="overwrite")
    print(f"{len(files)} files -> {snapshot.rows} documents, {snapshot.tokens('value'):,} tokens in {folder}")
    print(f"every byte is as it was written: {verify(folder).ok}")

    dataset = TokenDataset(folder, block_size=1024, shuffle=True, seed=0)
    loader = Loader(dataset, batch_size=16)
    print(f"{len(dataset)} blocks make {len(loader)} batches of {next(iter(loader)).shape}")

    batches = iter(loader)
    for _ in range(10):
        next(batches)
    state = json.dumps(loader.state_dict())
    expected = next(batches)

    resumed = Loader(TokenDataset(folder, block_size=1024), batch_size=16)
    resumed.load_state_dict(json.loads(state))
    print(f"the resumed run reads the same batch: {np.array_equal(next(iter(resumed)), expected)}")
    text = bytes(token for token in expected[0] if token != END_OF_DOCUMENT)
    print(f"it begins with {text[:48]!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
