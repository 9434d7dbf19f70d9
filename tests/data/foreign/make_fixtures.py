"""How the files in `fixtures` were made: each by its own library, in an environment outside this one.

    python make_fixtures.py litdata OUT    # PYTHONPATH has one version of litdata and what it needs
    python make_fixtures.py mds OUT        # ... mosaicml-streaming
    python make_fixtures.py webdataset OUT # ... webdataset

LitData ran in versions 0.2.30, 0.2.45, 0.2.58, 0.2.71 and 0.2.76, since its format has no version field;
mosaicml-streaming 0.13.0; webdataset 1.0.2; torch 2.13, numpy 2, Python 3.11.
"""

import io
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import samples
from PIL import Image


def picture(i: int, kind: str) -> Image.Image:
    """An image as PIL has it in memory, or as it was read from a file of some kind."""
    image = Image.fromarray(samples.pixels(i))
    return image if kind == "raw" else Image.open(io.BytesIO(encoded(i, kind)))


def encoded(i: int, kind: str) -> bytes:
    """The bytes of a JPEG, PNG ... file."""
    file = io.BytesIO()
    Image.fromarray(samples.pixels(i)).save(file, kind, **({"quality": 90} if kind == "jpeg" else {}))
    return file.getvalue()


def litdata(out: Path) -> None:
    """Write with the installed version of litdata; the folders carry its number."""
    from importlib.metadata import version

    import torch
    from litdata.streaming.cache import Cache
    from litdata.streaming.item_loader import TokensLoader

    number = version("litdata")
    new = tuple(map(int, number.split("."))) >= (0, 2, 76)

    def write(name: str, make: Any, rows: int = samples.ROWS, **options: Any) -> Path:
        folder = out / f"litdata-{number}" / name
        cache = Cache(str(folder), **{"chunk_size": samples.CHUNK_ROWS, **options})
        for i in range(rows):
            cache[i] = make(i)
        cache.done()
        cache.merge()
        return folder

    def with_tensors(make: Any, names: tuple[str, ...]) -> Any:
        def made(i: int) -> Any:
            sample = make(i)
            return {key: torch.from_numpy(value) if key in names else value for key, value in sample.items()}

        return made

    tree = with_tensors(samples.tree, samples.TENSORS)
    write("tree", lambda i: {**tree(i), "pil": picture(i, "raw"), "jpeg": picture(i, "jpeg")})
    write("zstd", tree, compression="zstd", **({"compression_level": "chunk"} if new else {}))
    tokens = {"chunk_size": samples.CHUNK_TOKENS, "item_loader": TokensLoader()}
    write("tokens", lambda i: torch.from_numpy(samples.document(i)), samples.DOCUMENTS, **tokens)
    if number in ("0.2.71", "0.2.76"):
        write("plain", samples.plain)
    if new:
        write("pictures", lambda i: [picture(i, "jpeg"), picture(i + 1, "jpeg")], 3)
        litdata_newest(write, tree, with_tensors)


def litdata_newest(write: Any, tree: Any, with_tensors: Any) -> None:
    """Everything that only the newest version writes."""
    import litdata.types as types
    import numpy as np
    import torch
    from litdata.utilities.encryption import FernetEncryption

    write("zstd-batch", tree, compression="zstd", compression_level="batch", compression_batch_size=3)
    write("zstd-sample", tree, compression="zstd", compression_level="sample")
    write("plain-zstd", samples.plain, compression="zstd")
    write("nested", with_tensors(samples.nested, ("x",)))
    for level in ("sample", "chunk"):
        key = FernetEncryption(password="correct horse", level=level)
        folder = write(f"fernet-{level}", lambda i: {"id": i, "x": torch.full((1, 2), i)}, encryption=key)
        key.save(str(folder / "key.json"))
    write("pickle", lambda i: {"x": torch.zeros(1, 1), "odd": {i, i + 1}})
    write(
        "typed",
        lambda i: {
            "image": types.Image(bytes=encoded(i, "png")),
            "jpeg": types.Jpeg(bytes=encoded(i, "jpeg")),
            "text": types.Text(text=f"caption {i}"),
            "tensor": types.Tensor(array=np.full((2, 2), i, np.int32)),
            "audio": types.Audio(bytes=b"not really audio %d" % i),
            "file": types.File(bytes=b"any file %d" % i),
        },
    )
    from torch_geometric.data import Data

    def graph(i: int) -> dict[str, Any]:
        edges = torch.tensor([[0, 1], [1, i]])
        tiff = types.Tiff(array=samples.pixels(i)[..., 0].astype(np.uint16))
        return {"graph": Data(x=torch.full((i + 2, 2), float(i)), edge_index=edges), "tiff": tiff}

    write("graph", graph, 3)
    write("custom", lambda i: {"i": i, "point": complex(i, -i)}, 5, serializers={"point": _points()})
    litdata_keys_and_windows(write)


def _points() -> Any:
    """A serializer of a user's own: complex numbers as text; the format's name says its version."""
    from litdata.streaming.serializers import Serializer

    class Points(Serializer):
        def serialize(self, data: complex) -> tuple[bytes, str]:
            return f"{data.real} {data.imag}".encode(), "point:v2"

        def deserialize(self, data: bytes) -> complex:
            return complex(*map(float, bytes(data).split()))

        def can_serialize(self, data: Any) -> bool:
            return isinstance(data, complex)

    return Points()


def litdata_keys_and_windows(write: Any) -> None:
    """RSA, and records of which windows are read."""
    import torch
    from litdata.streaming.temporal import TemporalArrayLoader
    from litdata.utilities.encryption import RSAEncryption

    key = RSAEncryption(password="correct horse")
    folder = write("rsa-sample", lambda i: {"id": i, "x": torch.full((1, 2), i)}, 4, encryption=key)
    key.save(str(folder / "key.json"))

    def record(i: int) -> dict[str, Any]:
        made = samples.record(i)
        return {**made, "features": torch.from_numpy(made["features"])}

    write("temporal", record, 5, item_loader=TemporalArrayLoader([["score", "valid"]]))


def mds(out: Path) -> None:
    """Write with mosaicml-streaming; compressions and hashes as its writer offers them."""
    from streaming import MDSWriter

    images = {"pil": "pil", "jpeg": "jpeg", "png": "png"}

    def write(
        name: str, columns: dict[str, str], make: Any, rows: int = samples.ROWS, **options: Any
    ) -> None:
        with MDSWriter(out=str(out / "mds" / name), columns=columns, size_limit=1200, **options) as writer:
            for i in range(rows):
                writer.write(make(i))

    write("columns", samples.COLUMN_ENCODINGS, samples.columns)
    write("images", images, lambda i: {kind: picture(i, "raw") for kind in images}, 3)
    small = {"id": "int", "text": "str"}
    for compression in ("zstd", "zstd:7", "gz", "bz2", "br", "snappy"):
        name = compression.replace(":", "-")
        write(name, small, lambda i: {"id": i, "text": "blå" * i}, compression=compression)
    hashes = ["sha1", "xxh64"]
    write("hashes", small, lambda i: {"id": i, "text": "blå" * i}, hashes=hashes, compression="gz")
    write("pickle", {"odd": "pkl"}, lambda i: {"odd": {i}}, 2)


def webdataset(out: Path) -> None:
    """Write tar shards with webdataset's own writer."""
    from webdataset import ShardWriter, TarWriter

    folder = out / "webdataset"
    folder.mkdir(parents=True)
    with ShardWriter(str(folder / "shard-%06d.tar"), maxcount=2) as writer:
        for i in range(samples.TAR_ROWS):
            writer.write(
                {
                    "__key__": f"train/{i:04d}",
                    "jpg": encoded(i, "jpeg"),
                    "cls": i % 3,
                    "txt": f"caption {i} blå",
                    "json": {"id": i},
                    "seg.png": encoded(i, "png"),
                    "npy": samples.tree(i)["np2"],
                }
            )
    packed = out / "webdataset-gz"
    packed.mkdir()
    with TarWriter(str(packed / "packed.tar.gz")) as writer:
        for i in range(3):
            writer.write({"__key__": f"{i}", "txt": f"{i}"})


if __name__ == "__main__":
    {"litdata": litdata, "mds": mds, "webdataset": webdataset}[sys.argv[1]](Path(sys.argv[2]))
