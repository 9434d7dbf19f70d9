"""LitData's smaller helpers: keyed updates, listings, tar members."""

import os
from collections.abc import Callable, Iterator
from typing import Any, Self

from blixt.compat.litdata.core.places import location_of
from blixt.compat.litdata.core.refuse import refuse
from blixt.compat.litdata.core.write import stored
from blixt.data import KeyNotFoundError, index_keys, update
from blixt.data.build.tars import TarSamples
from blixt.data.snapshot import load
from blixt.data.store import open_store

_EXTENSIONS = {
    "text": ("txt",),
    "image": ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"),
    "video": ("mp4", "avi", "mov", "mkv", "webm", "mpg", "mpeg"),
    "audio": ("wav", "mp3", "flac", "ogg", "opus", "m4a"),
    "mesh": ("obj", "ply", "stl", "glb", "off"),
    "pdf": ("pdf",),
    "nifti": ("nii", "nii.gz"),
}


class DatasetUpdate:
    """Replacements of samples by key; `commit` makes them one new version.

    Args:
        input_dir: the dataset, written with `optimize(key_fn=...)`.

    Raises:
        FileNotFoundError: when it has no keys.
    """

    def __init__(self, input_dir: str) -> None:
        self._place = location_of(input_dir)
        self._samples: dict[Any, Any] = {}
        self._is_done = False
        if load(open_store(self._place)).keys is None:
            raise FileNotFoundError(
                f"there is no keys/ in {input_dir}; write with key_fn=, or call build_keys_index first"
            )

    def __setitem__(self, key: Any, sample: Any) -> None:
        if self._is_done:
            raise RuntimeError("samples cannot be replaced after commit; begin another dataset_update")
        self._samples[key] = stored(sample)

    def replace(self, key: Any, sample: Any) -> None:
        """Note the new sample of a key."""
        self[key] = sample

    def commit(self) -> None:
        """Publish the replacements.

        Raises:
            KeyError: when a key is not there.
        """
        if self._samples:
            try:
                update(self._place, self._samples)
            except KeyNotFoundError as problem:
                raise KeyError(f"Unknown dataset key: {problem}") from problem
            self._samples = {}
        self._is_done = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._samples = {}  # what was not committed is forgotten


def dataset_update(input_dir: str) -> DatasetUpdate:
    """Begin to replace samples of a dataset by key."""
    return DatasetUpdate(input_dir)


def build_keys_index(
    input_dir: str,
    key_fn: Callable[[Any], Any],
    *,
    output_dir: str | None = None,
    overwrite: bool = False,
    verbose: bool = True,
    num_shards: int = 1,
) -> str:
    """Give a dataset keys that it was written without; return the folder where they are.

    Args:
        input_dir: the dataset.
        key_fn: makes the key of a sample.
        output_dir: nothing but `input_dir`: keys belong to a version of the dataset.
        overwrite: replace keys that are there.
        verbose, num_shards: of no meaning here.

    Raises:
        FileExistsError: when it has keys and `overwrite` was not given.
        UnsupportedArgument: for another `output_dir`.
    """
    del verbose, num_shards
    refuse("build_keys_index", output_dir=None if output_dir == input_dir else output_dir)
    place = location_of(input_dir)
    if load(open_store(place)).keys is not None and not overwrite:
        raise FileExistsError(
            f"Key index already exists under {input_dir}. Pass overwrite=True to replace it."
        )
    index_keys(place, key_fn)
    return f"{place}/keys"


def list_media_folder(root: str, kind: str = "image", drop_labels: bool = False) -> list[dict[str, Any]]:
    """List `root/class_name/file` as `{"path": ..., "label": class_name}`; files in `root` have no label.

    Raises:
        ValueError: for another kind.
    """
    if kind not in _EXTENSIONS:
        raise ValueError(f"kind must be one of {', '.join(sorted(_EXTENSIONS))}, got {kind!r}")
    endings = tuple(f".{extension}" for extension in _EXTENSIONS[kind])
    found: list[dict[str, Any]] = []
    for folder, folders, files in os.walk(os.path.abspath(root)):
        folders.sort()
        label = None if drop_labels or folder == os.path.abspath(root) else os.path.basename(folder)
        names = [name for name in sorted(files) if name.lower().endswith(endings)]
        found += [{"path": os.path.join(folder, name), "label": label} for name in names]
    return found


def iter_webdataset_tar(tar_path: str) -> Iterator[dict[str, Any]]:
    """Yield a dict per key of a webdataset tar: `__key__`, and the bytes of each file by extension."""
    samples = TarSamples(tar_path)
    yield from samples.read(0, len(samples))
