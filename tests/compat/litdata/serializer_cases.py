"""Values of every kind, for LitData's serializers and ours, whose bytes hang on no other library."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

PIXELS = np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3)
FILES = {
    "a.jpg": b"\xff\xd8 a JPEG",
    "b.png": b"a PNG",
    "t.tif": b"a TIFF",
    "d.pdf": b"%PDF-1.4",
    "v.nii": b"a volume",
    "w.nii.gz": b"a packed volume",
    "m.ply": b"a mesh",
    "s.wav": b"RIFF",
    "s.pcm": np.arange(-20, 20, dtype="<i2").tobytes(),
    "c.mp4": b"a clip",
    "n.txt": "blå".encode(),
}
JSON: list[Any] = [
    *(None, True, "a", 1, 2**70, 1.5, [], ["a", "b"], [1, 2], [1, 2**70], [1.5, 2.5], [1, 2.5]),
    *([True, False], [1, True], {"a": 1, "b": [1, {"c": None}]}, {1: 2}, [{"a": 1, "b": None}]),
    *(
        [{"a": 1, "b": "å"}, {"b": "x", "a": 2.5}],
        [{"a": 1}, {"b": 1}],
        [{"a": [1]}],
        [{}],
        [None],
        [[1], [2]],
    ),
    *({"t": [True]}, [{"a": True, "b": -1}]),
]
TORCH = ("float32", "float64", "float16", "uint8", "int8", "int16", "int32", "int64", "bool", "uint16")
NUMPY = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "?")


def write_files(folder: Path) -> None:
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def cases(types: Any, serializers: Any, folder: Path) -> list[tuple[str, Any]]:
    """Return names of serializers and values for them.

    Args:
        types: the module of the typed wrappers.
        serializers: the module of the serializers.
        folder: where the files are.
    """

    def path(name: str) -> str:
        return str(folder / name)

    grid = torch.arange(6).reshape(2, 3)
    listed: dict[str, list[Any]] = {
        "String": ["", "hé\n"],
        "Text": [types.Text(text="å"), types.Text(bytes=b"xx"), types.Text(path=path("n.txt"))],
        "Bytes": [b"", b"abc"],
        "Integer": [0, -1, 2**62, True],
        "Float": [0.5, -1e300, float("inf")],
        "Boolean": [True, False],
        "Json": [serializers.JsonLeaf(value) for value in JSON],
        "File": [types.File(path=path("n.txt")), types.File(bytes=b"a"), path("d.pdf")],
        "Tensor": [
            *(grid.to(getattr(torch, name)) for name in (*TORCH, "complex64", "complex128")),
            *(torch.tensor(3), torch.zeros(0, 2), grid.T, types.Tensor(array=PIXELS)),
            types.Tensor(array=torch.ones(2, 2), dtype=torch.int8),
        ],
        "NoHeaderTensor": [
            *(torch.arange(5).to(getattr(torch, name)) for name in TORCH),
            *(torch.zeros(0), types.Tensor(bytes=b"12345678", dtype=torch.int16)),
            types.Tensor(array=np.arange(3)),
        ],
        "Numpy": [
            *(np.arange(6).reshape(2, 3).astype(name) for name in NUMPY),
            np.ones((2, 0)),
            grid.numpy().T,
        ],
        "NoHeaderNumpy": [np.arange(5).astype(name) for name in NUMPY],
        "PIL": [
            *(Image.fromarray(PIXELS), Image.fromarray(PIXELS).convert("1"), types.Pil(array=PIXELS)),
            types.Pil(image=Image.fromarray(PIXELS), mode="L"),
            types.Pil(array=PIXELS[..., 0].astype("f4")),
            types.Pil(array=PIXELS / 255),
        ],
        "Image": [
            *(types.Image(path=path("a.jpg")), types.Image(bytes=b"x"), path("b.png")),
            *({"path": "q.webp", "bytes": b"zz"}, {"bytes": b"zz"}),
        ],
        "JPEGArray": [types.JpegArray([path("a.jpg"), b"yy", {"bytes": b"z"}, types.Image(bytes=b"w")])],
        "TIFF": [path("t.tif"), types.Tiff(path=path("t.tif")), types.Tiff(bytes=b"x"), {"bytes": b"y"}],
        "Video": [path("c.mp4"), types.Video(bytes=b"v"), {"path": path("c.mp4")}],
        "Audio": [
            *(path("s.wav"), types.Audio(bytes=b"v"), {"array": np.ones(4) / 3, "sampling_rate": 16000}),
            types.Audio(array=np.linspace(-1.2, 1, 9), sampling_rate=8000),
            types.Audio(array=np.linspace(-1, 1, 8).reshape(2, 4), sampling_rate=8000),
            types.Audio(path=path("s.pcm"), sampling_rate=8000),
        ],
        "Nifti": [
            *(path("v.nii"), path("w.nii.gz"), types.Nifti(path=path("w.nii.gz")), types.Nifti(bytes=b"a")),
            {"path": "x.nii.gz", "bytes": b"q"},
        ],
        "Mesh": [path("m.ply"), types.Mesh(path=path("m.ply")), {"path": path("m.ply")}],
        "PDF": [path("d.pdf"), b"%PDF-2", types.Pdf(bytes=b"%PDF"), types.Pdf(path=path("d.pdf"))],
        "Graph": [
            types.Graph(x=torch.ones(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]), y=np.arange(3)),
            types.Graph(x=torch.ones(1, 2), data={"z": torch.ones(2), "n": 7}),
            types.Graph(data={"a": {"x": torch.ones(2, 1)}, ("a", "to", "a"): {"edge_index": grid}}),
        ],
        "Pickle": [{"a": 1}],
    }
    return [(name, value) for name, values in listed.items() for value in values]
