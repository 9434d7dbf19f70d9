"""LitData's serializers: its bytes, its values, and serializers of the user's own."""

import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from blixt.compat.litdata import Audio, Image, Jpeg, JpegArray, StreamingDataset, Text, Video, optimize, types
from blixt.compat.litdata.core.decoders import AudioDecoder, VideoDecoder
from blixt.compat.litdata.core.pixels import jpeg_quality
from blixt.compat.litdata.streaming import Cache, StreamingDataLoader, serializers
from blixt.compat.litdata.streaming.serializers import _SERIALIZERS, _get_serializers
from blixt.data import FormatError
from compat.litdata import recipes
from compat.litdata.serializer_cases import PIXELS, cases, write_files

Pillow = pytest.importorskip("PIL.Image")
FIXTURES = Path(__file__).parents[2] / "data" / "foreign" / "fixtures" / "litdata-0.2.76"
STORED = json.loads((Path(__file__).parent / "serialized.json").read_text())


def made(name: str, **options: Any) -> Any:
    return getattr(serializers, f"{name}Serializer")(**options)


def test_litdatas_26_classes_are_there_and_its_table_is_in_its_order() -> None:
    names = [name for name in dir(serializers) if name.endswith("Serializer")]
    assert len(names) == 26
    assert [name for name in names if not issubclass(getattr(serializers, name), serializers.Serializer)] == [
        "NumericSerializer"
    ]
    table = (
        "str text bool int float video audio image nifti mesh pdf graph tifffile file pil jpeg jpeg_array "
    )
    table += "bytes no_header_numpy numpy no_header_tensor tensor json pickle"
    assert list(_SERIALIZERS) == table.split()
    mine = recipes.PointSerializer()
    merged = _get_serializers({"mine": mine, "int": mine})
    assert list(merged)[:2] == ["mine", "int"]
    assert (merged["mine"], merged["int"], len(merged)) == (mine, mine, 25)
    assert merged["str"] is not _SERIALIZERS["str"]


def test_every_value_has_the_bytes_that_litdata_wrote_and_is_offered_to_the_same(tmp_path: Path) -> None:
    write_files(tmp_path)
    listed = cases(types, serializers, tmp_path)
    assert len(listed) == len(STORED) > 120
    for (name, value), (stored_name, content, kind, takers) in zip(listed, STORED, strict=True):
        found = made(name).serialize(value)
        assert (name, found[0].hex(), found[1]) == (stored_name, content, kind), value
        assert [key for key, one in _SERIALIZERS.items() if one.can_serialize(value)] == takers, value


PLAIN = (
    "String",
    "Bytes",
    "Integer",
    "Float",
    "Boolean",
    "Tensor",
    "NoHeaderTensor",
    "Numpy",
    "NoHeaderNumpy",
)


@pytest.mark.parametrize("name", PLAIN)
def test_values_come_back_with_their_types(name: str, tmp_path: Path) -> None:
    write_files(tmp_path)
    for case, value in cases(types, serializers, tmp_path):
        if case != name or isinstance(value, types.Tensor):
            continue
        serializer = made(name)
        content, kind = serializer.serialize(value)
        if kind is not None:
            serializer.setup(kind)
        back = serializer.deserialize(content)
        if isinstance(value, (torch.Tensor, np.ndarray)):
            assert (back.dtype, back.shape) == (value.dtype, value.shape)
            assert np.array_equal(np.asarray(back), np.asarray(value))
            back[...] = 0  # nobody else's memory
        else:
            assert back == value


def test_json_text_files_and_pixels_come_back(tmp_path: Path) -> None:
    write_files(tmp_path)
    for case, value in cases(types, serializers, tmp_path):
        content, _ = made(case).serialize(value)
        if case == "Json":
            assert made(case).deserialize(content) == json.loads(json.dumps(value.value))
        if case == "PIL":
            assert made(case).serialize(made(case).deserialize(content))[0] == content
        if case in ("File", "Mesh", "Nifti", "PDF"):
            options = {} if case == "File" else {"decode": False}
            assert made(case, **options).deserialize(content) == content
    assert made("Text").deserialize(made("Text").serialize(Text(text="blå"))[0]) == "blå"
    assert pickle.loads(made("Pickle").serialize({1})[0]) == made("Pickle").deserialize(pickle.dumps({1}))


def encoded(kind: str, pixels: Any = PIXELS, **options: Any) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def test_images_are_encoded_as_litdata_does(tmp_path: Path) -> None:
    (tmp_path / "low.jpg").write_bytes(encoded("JPEG", quality=40))
    opened = Pillow.open(tmp_path / "low.jpg")
    expected: list[tuple[Any, int | str]] = [
        (Image(array=PIXELS), "PNG"),
        (Image(array=PIXELS, quality=70), "PNG"),  # it forgets the quality where no format is given
        (Image(array=PIXELS, quality=70, format="jpeg"), 70),
        (Image(array=PIXELS, format="webp"), "WEBP"),
        (Image(bytes=encoded("JPEG", quality=99), max_quality=60), 60),
        (Image(image=opened, max_quality=60), 40),
        (Image(path=str(tmp_path / "low.jpg"), mode="L"), 75),
        (Jpeg(array=PIXELS), 95),
        (Jpeg(array=PIXELS / 255.0, max_quality=50), 50),
        (Jpeg(bytes=encoded("PNG")), 95),
        (Jpeg(array=PIXELS, quality=60), 60),
        (opened, 40),
        (Pillow.fromarray(PIXELS), 100),
    ]
    for value, wanted in expected:
        content, _ = made("Image" if type(value) is Image else "JPEG").serialize(value)
        if isinstance(wanted, str):
            assert Pillow.open(io.BytesIO(content)).format == wanted
        else:
            assert abs(jpeg_quality(content) - wanted) <= 1, value
    for wrong in (JpegArray([]), []):
        with pytest.raises(ValueError, match="non-empty list"):
            made("JPEGArray").serialize(wrong)
    with pytest.raises(TypeError, match="should be of type"):
        made("JPEG").serialize("a.jpg")
    with pytest.raises(TypeError, match="Cannot downcast"):
        made("Image").serialize(Image(array=np.ones((2, 2), np.complex64)))
    with pytest.warns(UserWarning, match="Downcasting array dtype int64 to uint8"):
        made("JPEG").serialize(Jpeg(array=PIXELS.astype(np.int64)))


def test_images_are_read_as_rgb_and_turned_as_their_exif_tag_says() -> None:
    grey = encoded("PNG", PIXELS[..., 0])
    assert made("Image").deserialize(grey).shape == (3, 16, 24)
    assert torch.equal(made("Image").deserialize(encoded("PNG")), torch.from_numpy(PIXELS).permute(2, 0, 1))
    tag = Pillow.Exif()
    tag[0x0112] = 6  # lies on its right side
    upright, turned = encoded("JPEG"), encoded("JPEG", exif=tag)
    back = made("JPEG").deserialize(turned)
    assert torch.equal(back, made("JPEG").deserialize(upright).rot90(-1, (1, 2)))
    several = made("JPEGArray").serialize(JpegArray([upright, turned]))[0]
    assert [tuple(one.shape) for one in made("JPEGArray").deserialize(several)] == [(3, 16, 24), (3, 24, 16)]
    for damaged, problem in ((b"", "too short"), (bytes(4), "must be positive"), (several[:8], "too short")):
        with pytest.raises(ValueError, match=problem):
            made("JPEGArray").deserialize(damaged)


def test_sounds_come_back_resampled_and_mixed_as_asked(tmp_path: Path) -> None:
    pytest.importorskip("av")
    waves = np.sin(np.linspace(0, 60, 1600, dtype=np.float32))
    stereo = np.stack([waves, np.zeros_like(waves)])
    content, kind = made("Audio").serialize(Audio(array=stereo, sampling_rate=8000))
    assert kind == "audio:wav"
    decoder = made("Audio").deserialize(content)
    assert decoder["sampling_rate"] == 8000
    assert np.abs(decoder["array"] - stereo).max() < 1e-4
    assert decoder.get_samples_played_in_range(0.05, 0.1).data.shape == (2, 400)
    assert made("Audio").serialize(decoder) == (content, "audio:wav")
    mixed, rate = made("Audio", decode="samples", sampling_rate=16000, num_channels=1).deserialize(content)
    assert (rate, mixed.shape[0], abs(mixed.shape[1] - 3200) < 64) == (16000, 1, True)
    assert made("Audio", decode="bytes").deserialize(content) == content
    with pytest.raises(KeyError, match="sampling_rate"):
        made("Audio").serialize(Audio(array=waves))
    with pytest.raises(ValueError, match="decode must be"):
        made("Audio", decode="array")


def test_videos_come_back_as_decoders_with_torchcodecs_verbs() -> None:
    pytest.importorskip("av")
    frames = np.stack([np.full((32, 48, 3), 30 * i, np.uint8) for i in range(6)])
    content, kind = made("Video").serialize(Video(array=frames.transpose(0, 3, 1, 2), fps=10))
    assert kind == "video:mp4"
    decoder = made("Video").deserialize(content)
    assert (len(decoder), decoder.metadata.average_fps) == (6, 10.0)
    assert decoder.get_frames_in_range(1, 5, 2).data.shape == (2, 3, 32, 48)
    assert torch.equal(decoder.get_frames_at([4, 1]).data[1], decoder[1])
    assert torch.equal(decoder[-1], decoder.get_all_frames().data[5])
    assert torch.equal(decoder[2:4], decoder.get_all_frames().data[2:4])
    with pytest.raises(IndexError, match="no frame 6"):
        decoder.get_frame_at(6)
    assert made("Video", dimension_order="NHWC").deserialize(content)[0].shape == (32, 48, 3)
    whole, sound, about = made("Video", decode="all").deserialize(content)
    assert (whole.shape, sound.shape, about["video_fps"]) == ((6, 32, 48, 3), (1, 0), 10.0)
    assert (
        made("Video").serialize(decoder)[0] == made("Video", decode="bytes").deserialize(content) == content
    )
    for wrong in ({"decode": "frames"}, {"seek_mode": "fast"}, {"stream_index": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            made("Video", **wrong)


def test_what_is_no_file_of_a_kind_is_refused(tmp_path: Path) -> None:
    refused: list[tuple[str, Any, type[Exception], str]] = [
        ("Text", Text(), TypeError, "needs path="),
        ("File", types.File(), TypeError, "needs path=, bytes="),
        ("Tensor", types.Tensor(bytes=b"1234"), TypeError, "requires dtype"),
        ("Mesh", types.Mesh(bytes=b"x"), ValueError, "must end with"),
        ("TIFF", "absent.tif", ValueError, "valid file path"),
        ("Video", str(tmp_path / "absent.mp4"), FileNotFoundError, "does not exist"),
        ("PDF", 3, TypeError, "Unsupported media input"),
        ("Audio", Audio(path=str(tmp_path / "a.pcm")), KeyError, "PCM"),
        ("Graph", 3, TypeError, "Cannot pack graph"),
        ("Graph", types.Graph(x=torch.ones(2), data={"n": [1]}), TypeError, "would pickle"),
    ]
    for name, value, kind, problem in refused:
        with pytest.raises(kind, match=problem):
            made(name).serialize(value)
    with pytest.raises(TypeError, match="must be bytes"):
        types.File(bytes="text")


def nodes(graph: Any) -> Any:
    return graph.to_mapping() if hasattr(graph, "to_mapping") else graph.to_dict()


def test_graphs_come_back_and_those_of_several_kinds_are_streamed(tmp_path: Path) -> None:
    data = pytest.importorskip("torch_geometric.data")
    flat = data.Data(x=torch.ones(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]))
    several = data.HeteroData()
    several["a"].x, several["b"].x = torch.ones(2, 3), torch.zeros(1, 2)
    several["a", "to", "b"].edge_index = torch.tensor([[0, 1], [0, 0]])
    for graph in (flat, several):
        content, kind = made("Graph").serialize(graph)
        back = made("Graph").deserialize(content)
        assert (type(back), kind) == (type(graph), "graph")
        assert made("Graph").serialize(back)[0] == content
    optimize(lambda _: {"g": several, "f": flat}, [0], str(tmp_path), chunk_size=1, num_workers=0)
    sample = StreamingDataset(str(tmp_path))[0]
    assert torch.equal(sample["g"]["a", "to", "b"].edge_index, several["a", "to", "b"].edge_index)
    assert torch.equal(sample["f"].x, flat.x)
    read = StreamingDataset(str(FIXTURES / "graph"))[2]["graph"]
    assert nodes(read)["edge_index"].tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_type_of_the_users_own_is_written_and_streamed(tmp_path: Path, workers: int) -> None:
    own = {"my_type": recipes.PointSerializer()}
    optimize(recipes.point, list(range(9)), str(tmp_path), chunk_size=4, num_workers=workers, serializers=own)
    dataset = StreamingDataset(str(tmp_path), serializers=own)
    assert [(s["i"], s["point"].place, s["more"][0].place, s["more"][1]) for s in dataset] == [
        (i, (i, -i), (0, i), [f"w{i}"]) for i in range(9)
    ]
    loader = StreamingDataLoader(dataset, batch_size=3, num_workers=workers, collate_fn=list)
    assert [s["point"].place for batch in loader for s in batch] == [(i, -i) for i in range(9)]
    with pytest.raises(FormatError, match="codec named 'my_type'"):
        StreamingDataset(str(tmp_path))[0]


@pytest.fixture
def registered() -> Iterator[None]:
    _SERIALIZERS["my_type"] = recipes.PointSerializer()
    yield
    del _SERIALIZERS["my_type"]


def test_a_type_that_was_put_into_litdatas_table_needs_no_argument(tmp_path: Path, registered: None) -> None:
    optimize(recipes.point, list(range(4)), str(tmp_path), chunk_size=2, num_workers=0)
    assert [s["point"].place for s in StreamingDataset(str(tmp_path))] == [(i, -i) for i in range(4)]


def test_a_cache_writes_and_reads_with_serializers_and_says_the_format_to_them(tmp_path: Path) -> None:
    own = {"point": recipes.ComplexSerializer()}
    cache = Cache(str(tmp_path), chunk_size=2, serializers=own)
    for i in range(3):
        cache[i] = {"i": i, "point": complex(i, -i)}
    cache.done()
    cache.merge()
    ours = StreamingDataset(str(tmp_path), serializers=own)
    theirs = StreamingDataset(str(FIXTURES / "custom"), serializers=own)  # LitData wrote this one
    for dataset, count in ((ours, 3), (theirs, 5)):
        assert [s["point"] for s in dataset] == [(complex(i, -i), "point:v2") for i in range(count)]
    assert cache[1]["point"] == (complex(1, -1), "point:v2")
    assert own["point"].heard is None  # each format has a copy of its own


def test_a_serializer_of_a_known_name_reads_in_its_stead(tmp_path: Path) -> None:
    class AsPillow(serializers.JPEGSerializer):
        def deserialize(self, data: bytes) -> Any:
            return Pillow.open(io.BytesIO(data))

    jpeg = encoded("JPEG")
    optimize(lambda _: {"jpeg": Jpeg(bytes=jpeg)}, [0], str(tmp_path), chunk_size=1, num_workers=0)
    for place in (tmp_path, FIXTURES / "typed"):
        image = StreamingDataset(str(place), serializers={"jpeg": AsPillow()})[0]["jpeg"]
        assert image.format == "JPEG"


def test_pickles_are_read_only_with_a_serializer_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="allow_pickle"):
        StreamingDataset(str(FIXTURES / "pickle"))[0]
    leave = {"pickle": serializers.PickleSerializer()}
    assert StreamingDataset(str(FIXTURES / "pickle"), serializers=leave)[1]["odd"] == {1, 2}
    with pytest.raises(Exception, match="would pickle"):
        optimize(lambda i: {"odd": {i}}, [0], str(tmp_path / "a"), chunk_size=1, num_workers=0)
    optimize(lambda i: {"odd": {i}}, [0], str(tmp_path / "b"), chunk_size=1, num_workers=0, serializers=leave)
    assert StreamingDataset(str(tmp_path / "b"), serializers=leave)[0]["odd"] == {0}


def test_media_of_a_dataset_come_as_decoders(tmp_path: Path) -> None:
    pytest.importorskip("av")
    waves = np.zeros(800, np.float32)
    frames = np.zeros((2, 16, 16, 3), np.uint8)

    def sample(_: int) -> dict[str, Any]:
        return {"sound": Audio(array=waves, sampling_rate=8000), "clip": Video(array=frames, fps=5)}

    optimize(sample, [0], str(tmp_path), chunk_size=1, num_workers=0)
    found = StreamingDataset(str(tmp_path))[0]
    assert isinstance(found["sound"], AudioDecoder)
    assert isinstance(found["clip"], VideoDecoder)
    assert found["sound"]["array"].shape == (800,)
    assert found["clip"].get_frames_at([1]).data.shape == (1, 3, 16, 16)
