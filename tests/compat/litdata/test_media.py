"""LitData's typed wrappers: what of each kind is stored, and what comes back."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from blixt.compat.litdata import (
    Audio,
    Graph,
    Image,
    Jpeg,
    JpegArray,
    Mesh,
    Nifti,
    Pdf,
    Pil,
    StreamingDataset,
    Tensor,
    Tiff,
    UnsupportedArgument,
    Video,
    optimize,
)
from blixt.compat.litdata.core.pixels import jpeg_quality

Pillow = pytest.importorskip("PIL.Image")
PIXELS = np.random.default_rng(0).integers(0, 255, (32, 48, 3)).astype(np.uint8)


def file(kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(PIXELS).save(out, kind, **options)
    return out.getvalue()


def written(tmp_path: Path, value: Any) -> Any:
    optimize(lambda _: {"value": value}, [0], str(tmp_path / "o"), chunk_size=1, num_workers=0)
    return StreamingDataset(str(tmp_path / "o"))[0]["value"]


@pytest.mark.parametrize("quality", [30, 49, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality: int) -> None:
    assert abs(jpeg_quality(file("JPEG", quality=quality)) - quality) <= 1
    assert jpeg_quality(file("PNG")) == 101


def test_a_jpeg_stays_as_it_is_unless_it_is_better_than_the_cap() -> None:
    assert Jpeg(bytes=file("JPEG", quality=75)).stored().value == file("JPEG", quality=75)
    assert jpeg_quality(Jpeg(bytes=file("JPEG", quality=99)).stored().value) == 95
    assert jpeg_quality(Jpeg(bytes=file("JPEG", quality=90), max_quality=60).stored().value) == 60
    assert jpeg_quality(Jpeg(bytes=file("JPEG", quality=40), quality=80).stored().value) == 80
    assert jpeg_quality(Jpeg(bytes=file("PNG")).stored().value) == 95
    assert Image(bytes=file("JPEG", quality=99)).stored().value == file("JPEG", quality=99)
    assert Image(bytes=file("PNG")).stored().value == file("PNG")
    assert jpeg_quality(Image(array=PIXELS, quality=70).stored().value) == 70
    for kind in (Image, Jpeg):
        with pytest.raises(ValueError, match="mutually exclusive"):
            kind(array=PIXELS, quality=70, max_quality=90)


def test_a_list_of_jpegs_follows_one_rule() -> None:
    given = [file("PNG"), PIXELS, Pillow.fromarray(PIXELS), Image(array=PIXELS)]
    assert [jpeg_quality(one.value) for one in JpegArray(given, quality=60).stored()] == [60] * 4
    kept = JpegArray([Jpeg(bytes=file("JPEG", quality=30))], max_quality=90).stored()
    assert kept[0].value == file("JPEG", quality=30)


def test_pil_and_tiff_come_back_without_loss(tmp_path: Path) -> None:
    assert np.array_equal(np.asarray(written(tmp_path / "a", Pil(bytes=file("PNG")))), PIXELS)
    pytest.importorskip("tifffile")
    for name, tiff in {"b": Tiff(array=PIXELS), "c": Tiff(image=Pillow.fromarray(PIXELS))}.items():
        assert np.array_equal(np.asarray(written(tmp_path / name, tiff)), PIXELS)


def test_a_graph_is_made_of_its_tensors_over_what_data_has(tmp_path: Path) -> None:
    graph = Graph(x=torch.ones(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]), data={"x": 0, "extra": [1]})
    mapping = graph.to_mapping()
    assert torch.equal(mapping["x"], torch.ones(3, 2))
    assert mapping["extra"] == [1]
    found = written(tmp_path, Graph(x=torch.ones(3, 2), y=torch.tensor([1.0])))
    found = found.to_dict() if hasattr(found, "to_dict") else found
    assert torch.equal(found["x"], torch.ones(3, 2))
    with pytest.raises(TypeError, match="must be a PyG Data, a dict"):
        Graph(data=3).to_mapping()


def test_frames_become_a_video_and_come_back(tmp_path: Path) -> None:
    pytest.importorskip("av")
    frames = np.stack([np.full((32, 48, 3), 20 * i, np.uint8) for i in range(6)])
    clip = written(tmp_path, Video(array=frames.transpose(0, 3, 1, 2), fps=10))
    back = clip.frames()
    assert (back.shape, clip.rate) == (frames.shape, 10.0)
    assert np.abs(back.astype(int) - frames).mean() < 4
    with pytest.raises(UnsupportedArgument, match="device"):
        Video(array=frames, device="cuda").stored()
    with pytest.raises(UnsupportedArgument, match="num_channels"):
        Audio(bytes=b"", num_channels=1).stored()


class Scene:
    """What trimesh, pdfplumber and nibabel offer of their objects."""

    stream = io.BytesIO(b"%PDF")

    def export(self, file_type: str) -> Any:
        return f"mesh as {file_type}" if file_type == "obj" else b"mesh"

    def to_bytes(self) -> bytes:
        return b"nifti"


def test_meshes_pdfs_and_volumes_are_files(tmp_path: Path) -> None:
    made = [Mesh(mesh=Scene()), Mesh(mesh=Scene(), file_type="obj"), Pdf(pdf=Scene()), Nifti(image=Scene())]
    assert [one.stored() for one in made] == [b"mesh", b"mesh as obj", b"%PDF", b"nifti"]
    (tmp_path / "a.pdf").write_bytes(b"file")
    assert Pdf(path=str(tmp_path / "a.pdf")).stored() == b"file"


def test_a_tensor_says_its_shape() -> None:
    assert Tensor(array=torch.zeros(2, 3)).shape == (2, 3)
    with pytest.raises(AttributeError, match="requires array="):
        _ = Tensor(path="a").shape
