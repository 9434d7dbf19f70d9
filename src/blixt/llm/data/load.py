"""Examples from any source: one call, whatever the format."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from blixt.llm.data.examples import Example, Kind
from blixt.llm.data.kinds import KINDS, detect, to_example
from blixt.llm.data.records import Source, read_records
from blixt.llm.errors import CorpusError

T = TypeVar("T")


def load_examples(
    source: Source,
    kind: Kind | Literal["auto"] = "auto",
    *,
    pattern: str | None = None,
    limit: int | None = None,
) -> list[Example]:
    """Read examples.

    Args:
        source: A file or folder (.txt, .md, .jsonl, .json, .parquet, or a `blixt.data` dataset, or one that
            `datasets` saved), an address such as `s3://` or `hf://datasets/...` of a `blixt.data` dataset, a
            list of `Path`s, an object of Hugging Face's `datasets` or a `blixt.data` dataset, or any iterable
            of rows (dicts) or texts.
        kind: "text", "chat" (messages as OpenAI has them, or ShareGPT's conversations), "instruction"
            (Alpaca's instruction/input/output), "completion" (prompt/completion), "preference"
            (prompt/chosen/rejected), "judged" (prompt/completion/label) or "task" (a prompt and what rewards
            need). "auto" takes what the fields of the first row say; all rows must be of that kind.
        pattern: Read the files of a folder that match, such as "*.py", each as one text.
        limit: Stop after so many.

    Returns:
        The examples, in the order of the source.

    Raises:
        CorpusError: Nothing is there, or a row is not of the kind; file, line and field are named.

    Example:
        >>> load_examples([{"prompt": "1 + 1 =", "completion": " 2"}])
        [Completion(prompt='1 + 1 =', completion=' 2', origin='list row 1')]
    """
    if kind != "auto" and kind not in KINDS:
        raise CorpusError(f"kind={kind!r} is none: use auto or one of {', '.join(KINDS)}")
    found: list[Example] = []
    settled = None if kind == "auto" else kind
    for record in read_records(source, pattern):
        if limit is not None and len(found) >= limit:
            break
        settled = settled or detect(record)
        found.append(to_example(record, settled))
    if not found:
        raise CorpusError(f"there is no example in {_name(source)}")
    return found


def split(examples: Sequence[T], fraction: float, *, seed: int = 0) -> tuple[list[T], list[T]]:
    """Hold examples out for validation, chosen by a hash of their content.

    The same example goes to the same part wherever it stands and whatever is added later, and copies of it
    never lie on both sides.

    Args:
        examples: What `load_examples` read.
        fraction: Share to hold out, from 0 to below 1; the true share differs a little.
        seed: Another number, another choice.

    Returns:
        Those to train on and those held out; the second is empty only when `fraction` is 0.

    Raises:
        CorpusError: `fraction` is impossible, or there are too few different examples for two parts.
    """
    if not 0 <= fraction < 1:
        raise CorpusError(f"fraction={fraction}: give a share from 0 to below 1")
    if not fraction:
        return list(examples), []
    places = [_place(example, seed) for example in examples]
    limit = fraction
    if min(places, default=1.0) >= limit:  # so few that chance held out none: the lowest goes
        limit = min(places, default=1.0) + 1e-12
    held_out = [e for e, place in zip(examples, places, strict=True) if place < limit]
    kept = [e for e, place in zip(examples, places, strict=True) if place >= limit]
    if not kept or not held_out:
        raise CorpusError(f"{len(examples)} examples are too few to hold some out: add some, or fraction 0")
    return kept, held_out


def _place(example: Any, seed: int) -> float:
    """A number in [0, 1) that the content alone decides."""
    text = json.dumps(_without_origin(asdict(example)), sort_keys=True, default=str)
    digest = hashlib.blake2b(text.encode(), digest_size=8, salt=seed.to_bytes(8, "little", signed=True))
    return int.from_bytes(digest.digest(), "little") / 2**64


def _without_origin(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {name: _without_origin(item) for name, item in items if name != "origin"}
    return value


def _name(source: Source) -> str:
    return str(source) if isinstance(source, (str, Path)) else f"the {type(source).__name__}"
