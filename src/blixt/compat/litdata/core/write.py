"""From LitData's samples to what our writer stores: shapes may vary, media keep their kind."""

import io
import os
from collections.abc import Callable, Iterator, Mapping
from inspect import isgenerator
from typing import Any, cast

import numpy as np

from blixt.compat.litdata.core.media import Media
from blixt.compat.litdata.core.pictures import JpegArray
from blixt.compat.litdata.core.serializers.base import Serializer
from blixt.compat.litdata.core.serializers.columns import coded
from blixt.compat.litdata.core.serializers.plain import JsonLeaf
from blixt.compat.litdata.core.serializers.registry import BUILT_IN, added
from blixt.data import types
from blixt.data.codecs.graphs import is_geometric
from blixt.data.schema import Schema, infer

OTHER_CONFIG = "The config of the optimized dataset is different from the original one."
_PLAIN = (bool, int, float, str)
_IMAGES = (".png", ".webp", ".bmp", ".gif")
_JPEGS = (".jpg", ".jpeg")


Serializers = Mapping[str, Serializer]


def stored(sample: Any, serializers: Serializers | None = None) -> Any:
    """Return a sample as our writer takes it.

    Dicts, tuples and a list that is the sample itself keep their nesting; lists and dicts below that hold
    plain values become one JSON column, so that their length may vary. Tensors and arrays may have any shape.

    Args:
        sample: what LitData would take.
        serializers: of the user's own; a leaf is offered to them first. Those added to LitData's table when
            None.

    Raises:
        TypeError: for an object that could only be pickled.
    """
    own = added(None) if serializers is None else serializers
    if isinstance(sample, dict):
        return {key: _inner(value, own) for key, value in cast("dict[str, Any]", sample).items()}
    if isinstance(sample, (list, tuple)):
        items = [_inner(item, own) for item in cast("list[Any]", sample)]
        return items if isinstance(sample, list) else tuple(items)
    return _leaf(sample, own)


def _inner(value: Any, serializers: Serializers) -> Any:
    if isinstance(value, (list, dict)) and _is_plain(value):
        return types.Json(value)
    if isinstance(value, (dict, list, tuple)):
        return stored(value, serializers)
    return _leaf(value, serializers)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        fields = cast("dict[Any, Any]", value)
        return all(isinstance(key, str) and _is_plain(one) for key, one in fields.items())
    if isinstance(value, list):
        return all(map(_is_plain, cast("list[Any]", value)))
    return value is None or type(value) in _PLAIN


def _leaf(value: Any, serializers: Serializers) -> Any:
    if serializers and (made := coded(value, serializers)) is not None:
        return made
    if type(value) is str:
        return _file(value) if os.path.isfile(value) else value
    if type(value) in _PLAIN or isinstance(value, (bytes, bytearray, types.Wrapped, types.Tokens)):
        return value
    if value is None or isinstance(value, JsonLeaf):
        return types.Json(value.value if value is not None else None)
    if isinstance(value, (Media, JpegArray)) or hasattr(value, "stored"):
        return value.stored()
    if isinstance(value, np.ndarray):
        return types.Array(cast("np.ndarray[Any, Any]", value))
    if isinstance(value, np.generic):
        return cast("Any", value)
    if is_geometric(value):
        return types.Graph(value)
    if type(value).__module__.startswith("torch_geometric"):  # nested by kinds of nodes and edges
        return coded(value, {"graph": BUILT_IN["graph"]})
    if hasattr(value, "detach"):
        return types.Tensor(value)
    if hasattr(value, "tobytes") and hasattr(value, "getbands"):
        return _picture(value)
    raise TypeError(
        f"a sample holds a {type(value).__name__}, which LitData would pickle; blixt.compat.litdata does not "
        "write pickles: turn it into arrays, text or bytes, or use blixt.data with Pickle(...)"
    )


def _picture(image: Any) -> Any:
    """A PIL image: one that was read from a JPEG stays that file, others are kept without loss."""
    if getattr(image, "format", None) == "JPEG":
        filename = getattr(image, "filename", "")
        if filename and os.path.isfile(filename):
            return types.Jpeg(str(filename))
        out = io.BytesIO()
        image.save(out, "JPEG", quality="keep")
        return types.Jpeg(out.getvalue())
    out = io.BytesIO()
    image.save(out, "PNG")
    return types.Png(out.getvalue())


def _file(path: str) -> Any:
    """A text that is the path of a file stands for the file."""
    extension = os.path.splitext(path)[1].lower()
    if extension in _JPEGS:
        return types.Jpeg(path)
    if extension in _IMAGES:
        return types.Image(path)
    with open(path, "rb") as file:
        return file.read()


class Stored:
    """The user's function with its samples as our writer takes them; travels to the workers.

    Args:
        fn: returns a sample, or yields some; None is no sample.
        tokens: samples are documents of a token stream.
        check: hears each sample before it is stored, and raises for one that does not fit.
        like: the columns that samples must have.
        serializers: of the user's own; they travel, too.
    """

    def __init__(
        self,
        fn: Callable[[Any], Any],
        tokens: bool,
        check: Callable[[Any], None] | None = None,
        like: Schema | None = None,
        serializers: Serializers | None = None,
    ) -> None:
        self._fn, self._tokens, self._check, self._like = fn, tokens, check, like
        self._serializers = added(serializers)

    def __call__(self, item: Any) -> Iterator[Any]:
        """Yield what the function makes of an input, as our writer takes it."""
        made = self._fn(item)
        samples: Any = made if isgenerator(made) else (made,)
        for sample in samples:
            if sample is not None:
                if self._check is not None:
                    self._check(sample)
                made_of = document(sample) if self._tokens else stored(sample, self._serializers)
                if self._like is not None:
                    self._compare(made_of, self._like)
                yield made_of

    def _compare(self, sample: Any, like: Schema) -> None:
        """Refuse the first sample, when it has other columns than the dataset that is overwritten."""
        self._like = None
        found = infer(sample)
        if (found.columns, found.structure) != (like.columns, like.structure):
            raise ValueError(OTHER_CONFIG)

    def __repr__(self) -> str:
        return f"{getattr(self._fn, '__qualname__', self._fn)!r} {self._tokens}"


def document(sample: Any) -> types.Tokens:
    """Return a token document."""
    leaf: Any = sample
    if isinstance(sample, (list, tuple)):
        leaves = cast("list[Any]", sample)
        leaf = leaves[0] if len(leaves) == 1 else leaves
    array: Any = leaf.detach().cpu().numpy() if hasattr(leaf, "detach") else np.asarray(leaf)
    return types.Tokens(array)
