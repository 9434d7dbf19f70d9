"""Every type of column is read back as it was written, whole or as stored bytes, singly and in batches."""

import io
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
import torch

from blixt.data import (
    Array,
    Audio,
    Coded,
    DataError,
    Dataset,
    DatasetWriter,
    File,
    FormatError,
    Graph,
    Image,
    Jpeg,
    Json,
    MissingDependencyError,
    Pickle,
    Png,
    SchemaError,
    ShardReader,
    ShardWriter,
    StoredFile,
    Tensor,
    Text,
    Tiff,
    Video,
    VideoClip,
    Waveform,
)
from blixt.data.codecs import codec_for
from blixt.data.schema import infer


def stored(tmp_path: Path, samples: list[Any], **options: Any) -> ShardReader:
    path = tmp_path / "a.shard"
    with ShardWriter(path, allow_pickle=True) as writer:
        for sample in samples:
            writer.write(sample)
    return ShardReader(path, **options)


def once(tmp_path: Path, value: Any, **options: Any) -> Any:
    return stored(tmp_path, [{"v": value}], **options).sample(0)["v"]


def picture(height: int = 24, width: int = 32) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 5, x * 5, (x + y) * 3], -1).astype(np.uint8)


@pytest.mark.parametrize("value", [7, -(2**63), 1.5, True, "blå", b"\0\1", math.inf])
def test_plain_values_keep_their_type(tmp_path: Path, value: Any) -> None:
    found = once(tmp_path, value)
    assert found == value
    assert type(found) is type(value)


def test_text_is_never_taken_for_a_path(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("content")
    assert once(tmp_path, Text(str(tmp_path / "x"))) == str(tmp_path / "x")


@pytest.mark.parametrize("value", [None, {"a": [1, 2.5, "ü", None]}, [], "x", {"deep": [[[{}]]]}])
def test_json_holds_what_differs_from_sample_to_sample(tmp_path: Path, value: Any) -> None:
    reader = stored(tmp_path, [{"v": Json(value)}, {"v": Json([1])}])
    assert reader.sample(0) == {"v": value}
    assert reader.sample(1) == {"v": [1]}


def test_json_that_json_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="field 'v': Out of range float"):
        once(tmp_path, Json(math.nan))


def test_trees_of_dicts_lists_and_tuples_come_back(tmp_path: Path) -> None:
    sample = {"a": [1, ("x", {"b": [np.float32(2), b"c"]})], "empty": {"list": [], "tuple": ()}}
    assert stored(tmp_path, [sample]).sample(0) == sample


def test_tensors_come_back_as_tensors_in_samples_and_batches(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    samples = [
        {
            "fixed": torch.full((2, 3), i, dtype=torch.float32),
            "half": torch.full((2,), i, dtype=torch.bfloat16),
            "ragged": Tensor(torch.arange(i)),
            "ragged_half": Tensor(torch.ones(i, 2, dtype=torch.bfloat16)),
            "scalar": torch.tensor(i),
        }
        for i in range(4)
    ]
    with DatasetWriter(folder) as writer:
        for sample in samples:
            writer.write(sample)
    dataset = Dataset(folder)
    for sample, found in zip(samples, dataset[:], strict=True):
        for name, value in sample.items():
            expected = value.tensor if isinstance(value, Tensor) else value
            assert found[name].dtype == expected.dtype
            assert torch.equal(found[name], expected)
    batch = dataset.read_batch([3, 1])
    assert torch.equal(batch["half"], torch.stack([samples[3]["half"], samples[1]["half"]]))
    assert torch.equal(batch["fixed"], torch.stack([samples[3]["fixed"], samples[1]["fixed"]]))


def test_tensors_are_arrays_where_torch_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = stored(tmp_path, [{"a": torch.ones(2), "b": torch.tensor([1.5, -2], dtype=torch.bfloat16)}])
    monkeypatch.setitem(sys.modules, "torch", None)
    sample = reader.sample(0)
    assert sample["a"].tolist() == [1, 1]
    assert (sample["b"].dtype, sample["b"].tolist()) == (np.float32, [1.5, -2])


def test_an_array_where_a_tensor_was_is_refused() -> None:
    from blixt.data.encode import compile_encoder

    encode = compile_encoder(infer({"x": torch.ones(2)}))
    with pytest.raises(SchemaError, match=r"field 'x': expected tensor of float32\[2\], got ndarray"):
        encode({"x": np.ones(2, np.float32)}, "sample 1")


def test_jpegs_are_stored_as_they_are_and_decoded_to_pixels(tmp_path: Path) -> None:
    out = io.BytesIO()
    PIL.Image.fromarray(picture()).save(out, "JPEG", quality=95)
    (tmp_path / "x.jpg").write_bytes(out.getvalue())
    values = [Jpeg(out.getvalue()), Jpeg(tmp_path / "x.jpg"), Jpeg(str(tmp_path / "x.jpg"))]
    reader = stored(tmp_path, [{"v": value} for value in values], decode=False)
    assert [reader.sample(row)["v"] for row in range(3)] == [out.getvalue()] * 3
    found = once(tmp_path, values[0])
    assert (found.shape, found.dtype) == ((24, 32, 3), np.uint8)
    assert np.abs(found.astype(int) - picture()).mean() < 3


@pytest.mark.parametrize("value", [picture(), picture()[..., 0]])
def test_a_jpeg_is_decoded_into_a_batch(value: Any) -> None:
    codec: Any = codec_for("jpeg", None)
    view = memoryview(codec.encode(Jpeg(value, quality=95)))
    assert codec.shape(view) == (24, 32, 3)
    batch = np.zeros((2, 24, 32, 3), np.uint8)
    codec.decode_into(view, batch[1])
    assert (batch[1] == codec.decode(view)).all()
    assert not batch[0].any()
    with pytest.raises(ValueError, match=r"the image has shape \(24, 32, 3\) and the buffer \(24, 31, 3\)"):
        codec.decode_into(view, np.zeros((24, 31, 3), np.uint8))


def test_jpegs_are_decoded_by_pillow_where_simplejpeg_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec: Any = codec_for("jpeg", None)
    view = memoryview(codec.encode(Jpeg(picture())))
    fast = codec.decode(view)
    monkeypatch.setattr(codec, "_turbo", None)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    slow = np.zeros_like(fast)
    codec.decode_into(view, slow)
    assert codec.shape(view) == slow.shape
    assert np.abs(fast.astype(int) - slow).max() <= 2


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    view = memoryview(codec_for("png", None).encode(Png(picture())))
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingDependencyError, match=r"images need Pillow: pip install 'blixt\[media\]'"):
        codec_for("png", None).decode(view)


@pytest.mark.parametrize(
    "pixels",
    [picture(), picture()[..., 0], np.full((3, 4), 40_000, np.uint16), np.full((2, 2, 4), 9, np.uint8)],
)
def test_pngs_are_lossless(tmp_path: Path, pixels: Any) -> None:
    codec: Any = codec_for("png", None)
    found = once(tmp_path, Png(pixels))
    assert (found.dtype, found.tolist()) == (pixels.dtype, pixels.tolist())
    assert codec.shape(memoryview(codec.encode(Png(pixels)))) == pixels.shape


@pytest.mark.parametrize("pixels", [np.random.default_rng(0).random((2, 5, 6)).astype(np.float32), picture()])
def test_tiffs_hold_any_array(tmp_path: Path, pixels: Any) -> None:
    found = once(tmp_path, Tiff(pixels))
    assert (found.dtype, found.tolist()) == (pixels.dtype, pixels.tolist())


def tiff_file(pages: list[np.ndarray[Any, Any]], compression: str) -> bytes:
    out = io.BytesIO()
    first, *rest = [PIL.Image.fromarray(page) for page in pages]
    first.save(out, "TIFF", compression=compression, save_all=True, append_images=rest)
    return out.getvalue()


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize(
    "pages", [[picture()], [picture()[..., 0]], [np.full((3, 4), 40_000, np.uint16)] * 2, [picture()] * 3]
)
def test_tiff_files_are_read_however_they_are_compressed(
    tmp_path: Path, pages: Any, compression: str
) -> None:
    found = once(tmp_path, Tiff(tiff_file(pages, compression)))
    expected = np.stack(pages) if len(pages) > 1 else pages[0]
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert (found == expected).all()


def test_a_tiff_that_only_imagecodecs_reads_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    view = memoryview(tiff_file([picture()], "tiff_lzw"))
    monkeypatch.setattr(PIL.Image, "open", lambda file: PIL.Image.new("L", (32, 24)))
    with pytest.raises(MissingDependencyError, match=r"LZW.*: pip install imagecodecs"):
        codec_for("tiff", None).decode(view)


def test_bare_pil_images_and_image_files_of_any_kind_are_images(tmp_path: Path) -> None:
    image = PIL.Image.fromarray(picture())
    out = io.BytesIO()
    image.convert("P").save(out, "GIF")
    reader = stored(tmp_path, [{"v": image}, {"v": Image(out.getvalue())}])
    assert (reader.sample(0)["v"] == picture()).all()
    assert reader.sample(1)["v"].shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Jpeg(b"no jpeg"), "these bytes are no JPEG"),
        (Png(b"\xff\xd8"), "these bytes are no PNG"),
        (Jpeg("/nowhere/x.jpg"), "cannot read /nowhere/x.jpg: No such file"),
        (Jpeg(7), "Jpeg holds a int; give bytes or a path"),
        (Audio(np.zeros(3, np.float32)), "needs its rate"),
        (Audio(np.zeros(3), rate=8), "int16 or float32, got float64"),
        (Graph([1]), r"expected Graph\(...\) or a torch_geometric Data, got list"),
        (Pickle(lambda: 0), "cannot be pickled"),
    ],
)
def test_a_value_that_is_none_of_its_type_is_refused_with_its_field(
    tmp_path: Path, value: Any, message: str
) -> None:
    with pytest.raises(SchemaError, match=f"sample 0, field 'v': .*{message}"):
        once(tmp_path, value)


def test_bytes_where_a_jpeg_was_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"sample 1, field 'v': expected Jpeg\(...\), got bytes"):
        stored(tmp_path, [{"v": Jpeg(picture())}, {"v": b"\xff\xd8"}])


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_sound_is_lossless(tmp_path: Path, dtype: str) -> None:
    wave = np.sin(np.arange(3000) / 20)
    samples = (wave * 20_000).astype(np.int16) if dtype == "int16" else wave.astype(np.float32)
    found = once(tmp_path, Audio(samples, rate=8000))
    assert isinstance(found, Waveform)
    assert (found.rate, found.samples.shape, found.samples.dtype) == (8000, (3000, 1), np.float32)
    expected = samples / 32768 if dtype == "int16" else samples
    assert (found.samples[:, 0] == expected.astype(np.float32)).all()


def video(frames: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), number * 20, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def test_video_is_decoded_frame_by_frame_when_asked(tmp_path: Path) -> None:
    clip = once(tmp_path, Video(video(10)))
    assert isinstance(clip, VideoClip)
    assert (clip.rate, clip.shape) == (10, (24, 32, 3))
    assert 0.9 < clip.duration_s < 1.1
    levels = [int(frame.mean()) for frame in clip]
    assert np.abs(np.array(levels) - np.arange(10) * 20).max() < 8
    assert [int(frame.mean()) for frame in clip.frames(2, 7, 2)] == levels[2:7:2]
    assert clip.frames(20).shape == (0, 24, 32, 3)
    with pytest.raises(ValueError, match="frames count from 0"):
        clip.frames(-1)


def test_a_graph_of_arrays_is_a_dict(tmp_path: Path) -> None:
    graph = {"x": np.ones((3, 2), np.float32), "edges": np.array([[0, 1], [1, 2]]), "name": "g", "n": 3}
    found = once(tmp_path, Graph(graph))
    assert found.keys() == graph.keys()
    assert (found["x"] == graph["x"]).all()
    assert (found["edges"] == graph["edges"]).all()
    assert (found["name"], found["n"]) == ("g", 3)


def test_graphs_of_torch_geometric_come_back_as_such(tmp_path: Path) -> None:
    from torch_geometric import data

    graph = data.Data(x=torch.rand(4, 2), edge_index=torch.tensor([[0, 1], [1, 3]]), y=1.5)
    found = once(tmp_path, graph)
    assert type(found) is data.Data
    assert torch.equal(found.x, graph.x)
    assert torch.equal(found.edge_index, graph.edge_index)
    assert (found.y, found.num_nodes) == (1.5, 4)


def test_files_keep_their_name_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "notes.pdf").write_bytes(b"%PDF-1.7")
    reader = stored(tmp_path, [{"v": File(tmp_path / "notes.pdf")}, {"v": File(b"x", name="y.bin")}])
    assert reader.sample(0)["v"] == StoredFile("notes.pdf", b"%PDF-1.7")
    assert reader.sample(1)["v"] == StoredFile("y.bin", b"x")


def test_pickles_need_the_consent_of_writer_and_reader(tmp_path: Path) -> None:
    value = {"when": complex(1, 2)}
    with (
        pytest.raises(SchemaError, match="field 'v' would be stored as a pickle"),
        ShardWriter(tmp_path / "b") as w,
    ):
        w.write({"v": Pickle(value)})
    with pytest.raises(DataError, match=r"'v' holds pickles.*allow_pickle=True"):
        once(tmp_path, Pickle(value))
    assert once(tmp_path, Pickle(value), allow_pickle=True) == value
    assert pickle.loads(once(tmp_path, Pickle(value), decode=False)) == value


class Upside:
    """A codec of a user's own."""

    name = "upside-down"

    def encode(self, value: Any) -> bytes:
        return str(value)[::-1].encode()

    def decode(self, stored: memoryview) -> str:
        return bytes(stored).decode()[::-1]


def test_a_codec_of_the_users_own_is_named_in_the_data(tmp_path: Path) -> None:
    reader = stored(tmp_path, [{"v": Coded("abc", Upside())}], codecs={"upside-down": Upside()})
    assert reader.sample(0) == {"v": "abc"}
    assert reader.schema.columns[0].type == "user:upside-down"
    assert once(tmp_path, Coded("abc", Upside()), decode=False) == b"cba"
    with pytest.raises(FormatError, match=r"in a codec named 'upside-down'; pass codecs="):
        once(tmp_path, Coded("abc", Upside()))


def test_decoding_is_chosen_by_column(tmp_path: Path) -> None:
    reader = stored(
        tmp_path, [{"a": Png(picture()), "b": Png(picture()), "c": Array(picture())}], decode={"a": False}
    )
    sample = reader.sample(0)
    assert isinstance(sample["a"], bytes)
    assert (sample["b"] == picture()).all()
    assert (sample["c"] == picture()).all()


def test_arrays_of_another_byte_order_are_stored_right(tmp_path: Path) -> None:
    value = np.arange(3, dtype=">i4")
    found = once(tmp_path, [value, Array(value)])
    assert [one.tolist() for one in found] == [[0, 1, 2]] * 2
    assert found[0].dtype.isnative
