"""Models fetched by huggingface_hub's own client from a server on loopback, broken off and gone on with."""

import json
import random
from pathlib import Path

import pytest
import torch
from tests.llm.weights.hub import Hub

from blixt.llm.config import ModelConfig
from blixt.llm.errors import DownloadError
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import download as downloading
from blixt.llm.weights import load_checkpoint, save_checkpoint
from blixt.llm.weights.download import download

NAME = "tests/tiny"
TOKENS = torch.arange(9)[None]
UNNEEDED = (
    "README.md",
    "pytorch_model.bin",
    "consolidated.safetensors",
    "onnx/model.onnx",
    "model.fp16.safetensors",
)


@pytest.fixture(scope="module")
def files(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A sharded checkpoint with a tokenizer, and what a loader does not need."""
    directory = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab=len(tokenizer), d=64, layers=2, heads=4, kv_heads=2))
    save_checkpoint(model, directory, max_shard_bytes=200_000)
    tokenizer.save(directory)
    found = {file.name: file.read_bytes() for file in directory.iterdir()}
    unneeded = (
        "README.md",
        "pytorch_model.bin",
        "consolidated.safetensors",
        "onnx/model.onnx",
        "model.fp16.safetensors",
    )
    return found | dict.fromkeys(unneeded, b"x" * 20_000)


@pytest.fixture
def hub(files: dict[str, bytes]):
    with Hub(NAME, files) as server:
        yield server


def fetch(hub: Hub, target: Path, **options: object) -> Path:
    return download(NAME, target, endpoint=hub.url, token="none", **options)  # type: ignore[arg-type]


def largest(hub: Hub) -> str:
    return max(
        (name for name in hub.files if name.startswith("model-")), key=lambda name: len(hub.files[name])
    )


def test_a_model_comes_with_the_files_it_needs_and_no_others(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    target = fetch(hub, tmp_path / "m")
    visible = {file.name for file in target.iterdir() if not file.name.startswith(".")}
    assert visible == hub.fetched()
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} < visible
    assert not visible & {
        "README.md",
        "pytorch_model.bin",
        "consolidated.safetensors",
        "model.fp16.safetensors",
    }
    assert all((target / name).read_bytes() == files[name] for name in visible)
    assert load_checkpoint(target)(TOKENS).shape == (1, 9, len(tokenizer))


def test_progress_ends_at_all_bytes_and_never_goes_back(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fetch(hub, tmp_path / "m", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] == sum(len(hub.files[name]) for name in hub.fetched())


def test_nothing_is_fetched_twice(hub: Hub, tmp_path: Path) -> None:
    fetch(hub, tmp_path / "m")
    hub.requests.clear()
    fetch(hub, tmp_path / "m")
    assert hub.requests == []


@pytest.fixture
def big():
    """A repository with one file of 25 MB; the hub's client hands on 10 MB at a time."""
    with Hub(NAME, {"big.gguf": random.Random(0).randbytes(25_000_000)}) as server:
        yield server


def test_an_interrupted_file_is_gone_on_with_by_the_next_run(big: Hub, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > 15_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(big, tmp_path / "m", progress=stop)
    (partial,) = (tmp_path / "m").glob(".big.gguf.*.partial")
    have = partial.stat().st_size
    assert 10_000_000 < have < 25_000_000
    assert partial.read_bytes() == big.files["big.gguf"][:have]
    seen: list[int] = []
    path = fetch(big, tmp_path / "m", progress=lambda done, total: seen.append(done))
    assert big.ranges("big.gguf") == [None, f"bytes={have}-"]
    assert seen[0] == have
    assert path.read_bytes() == big.files["big.gguf"]
    assert not list((tmp_path / "m").glob(".*.partial"))


def test_a_broken_connection_is_gone_on_with_at_once(big: Hub, tmp_path: Path) -> None:
    big.cut_after["big.gguf"] = 12_000_000
    seen: list[int] = []
    path = fetch(big, tmp_path / "m", progress=lambda done, total: seen.append(done))
    assert big.ranges("big.gguf") == [None, "bytes=10485760-"]
    assert path.read_bytes() == big.files["big.gguf"]
    assert seen == sorted(seen)


def test_the_rest_of_another_version_is_not_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    shard = largest(hub)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / f".{shard}.0123456789abcdef.partial").write_bytes(b"old")
    target = fetch(hub, tmp_path / "m")
    assert hub.ranges(shard) == [None]
    assert not list(target.glob("*.partial"))


def test_a_file_that_came_damaged_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    shard = largest(hub)
    hub.corrupt.add(shard)
    with pytest.raises(DownloadError, match=rf"{shard} came damaged \(its SHA-256 is another\)"):
        fetch(hub, tmp_path / "m")
    assert not (tmp_path / "m" / shard).exists()
    hub.corrupt.clear()
    assert (fetch(hub, tmp_path / "m") / shard).read_bytes() == hub.files[shard]


def test_a_changed_file_is_fetched_anew_the_others_are_not(hub: Hub, tmp_path: Path) -> None:
    target = fetch(hub, tmp_path / "m")
    shard = largest(hub)
    (target / shard).write_bytes(b"\0" * len(hub.files[shard]))
    record = json.loads((target / downloading.RECORD).read_text())
    (target / downloading.RECORD).write_text(json.dumps(record | {shard: "of another version"}))
    hub.requests.clear()
    fetch(hub, tmp_path / "m")
    assert hub.fetched() == {shard}
    assert (target / shard).read_bytes() == hub.files[shard]


def test_one_gguf_of_several_is_chosen_by_name(tmp_path: Path) -> None:
    with Hub(
        NAME, {"a.Q4_0.gguf": b"GGUF4" * 9000, "a.Q8_0.gguf": b"GGUF8" * 9000, "config.json": b"{}"}
    ) as hub:
        with pytest.raises(
            DownloadError, match=r"has 2 \.gguf files: choose one with --file, a\.Q4_0\.gguf, a\.Q8"
        ):
            fetch(hub, tmp_path / "m")
        path = fetch(hub, tmp_path / "m", file="a.Q8_0.gguf")
        assert path == tmp_path / "m" / "a.Q8_0.gguf"
        assert path.read_bytes() == hub.files["a.Q8_0.gguf"]
        assert hub.fetched() == {"a.Q8_0.gguf"}
        with pytest.raises(DownloadError, match=r"has no file b\.gguf; it has a\.Q4_0\.gguf"):
            fetch(hub, tmp_path / "m", file="b.gguf")


def test_what_the_hub_refuses_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"there is no repository tests/none on the hub"):
        download("tests/none", tmp_path / "m", endpoint=hub.url, token="none")
    with pytest.raises(DownloadError, match=r"has no such revision"):
        fetch(hub, tmp_path / "m", revision="nope")
    with pytest.raises(DownloadError, match=r"'tiny' is not the name of a repository"):
        download("tiny", tmp_path / "m", endpoint=hub.url)
    hub.gated = True
    with pytest.raises(DownloadError, match=r"tests/tiny is gated: accept its terms"):
        fetch(hub, tmp_path / "m")


def test_a_repository_without_weights_or_with_a_shard_missing_is_refused(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    with (
        Hub(NAME, {"config.json": b"{}"}) as hub,
        pytest.raises(DownloadError, match="has no weights at its top"),
    ):
        fetch(hub, tmp_path / "a")
    shard = sorted(name for name in files if name.startswith("model-"))[0]
    with (
        Hub(NAME, {name: data for name, data in files.items() if name != shard}) as hub,
        pytest.raises(DownloadError, match=f"lacks {shard}, which its model.safetensors.index.json names"),
    ):
        fetch(hub, tmp_path / "b")


def test_a_hub_that_does_not_answer_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the hub did not answer for tests/tiny"):
        download(NAME, tmp_path / "m", endpoint="http://127.0.0.1:9", token="none")


def test_a_disk_without_room_is_refused_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match=r"needs .* GB more, the disk of .* has 0\.0 GB free"):
        fetch(hub, tmp_path / "m")
    assert hub.fetched() <= {"model.safetensors.index.json"}
