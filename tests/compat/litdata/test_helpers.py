"""LitData's smaller names: RSA, the hub, keys made later, left-over indexes, processors, the debugger."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("torch")
import torch

from blixt.compat import litdata
from blixt.compat.litdata import (
    StreamingDataset,
    UnsupportedArgument,
    build_keys_index,
    complete_dataset,
    get_gpu_affinity,
    get_numa_affinity,
    index_hf_dataset,
    is_complete_dataset,
    optimize,
    optimize_hf,
)
from blixt.compat.litdata.core.affinity import NumaAffinity, parse_list
from blixt.compat.litdata.streaming.downloader import (
    Downloader,
    register_downloader,
    unregister_downloader,
)
from blixt.compat.litdata.utilities.encryption import Encryption, RSAEncryption
from blixt.data.store import StoreError
from compat.litdata import recipes
from data.servers.web import HubServer, WebServer

FIXTURES = Path(__file__).parents[2] / "data" / "foreign" / "fixtures" / "litdata-0.2.76"


def test_every_public_name_of_litdata_is_there() -> None:
    names = [
        "NumaAffinity",
        "get_gpu_affinity",
        "get_numa_affinity",
        "StreamingDataset",
        "StreamingRawDataset",
        "CombinedStreamingDataset",
        "StreamingDataLoader",
        "litdata_collate",
        "TokensLoader",
        "TemporalArrayLoader",
        "ParallelStreamingDataset",
        "map",
        "optimize",
        "dataset_update",
        "build_keys_index",
        "walk",
        "list_media_folder",
        "iter_webdataset_tar",
        "train_test_split",
        "merge_datasets",
        "complete_dataset",
        "is_complete_dataset",
        "index_parquet_dataset",
        "index_hf_dataset",
        "optimize_hf",
        "breakpoint",
        "ChunkWaitTimeoutError",
        "Audio",
        "Video",
        "Image",
        "Jpeg",
        "JpegArray",
        "Pil",
        "Tiff",
        "File",
        "Mesh",
        "Pdf",
        "Nifti",
        "Tensor",
        "Text",
        "Graph",
    ]
    assert [name for name in names if name not in litdata.__all__ or not hasattr(litdata, name)] == []


def test_what_litdata_encrypted_with_rsa_opens_with_its_key() -> None:
    folder = FIXTURES / "rsa-sample"
    key = RSAEncryption.load(folder / "key.json", "correct horse")
    dataset = StreamingDataset(str(folder), encryption=key)
    assert all(
        sample["id"] == i and torch.equal(sample["x"], torch.full((1, 2), i))
        for i, sample in enumerate(dataset)
    )
    assert len(dataset) == 4


def test_what_is_written_with_rsa_opens_with_the_private_key_only(tmp_path: Path) -> None:
    key = RSAEncryption("secret")
    public = RSAEncryption("other")
    key.save_keys(tmp_path / "private", tmp_path / "public")
    assert "ENCRYPTED" in (tmp_path / "private").read_text()
    public.private_key, public.public_key = None, key.public_key  # whoever writes needs no more
    optimize(
        recipes.sample, list(range(4)), str(tmp_path / "o"), chunk_size=2, num_workers=0, encryption=public
    )
    again = RSAEncryption("new")
    again.load_keys(tmp_path / "private", tmp_path / "public", "secret")
    assert [sample["i"] for sample in StreamingDataset(str(tmp_path / "o"), encryption=again)] == [0, 1, 2, 3]
    for wrong in (public, RSAEncryption("secret"), None):
        with pytest.raises(Exception, match=r"Private key not found|Decryption failed|is encrypted"):
            StreamingDataset(str(tmp_path / "o"), encryption=wrong)[0]
    assert again.decrypt(public.encrypt(b"x" * 190)) == b"x" * 190
    again.save(tmp_path / "both")
    assert RSAEncryption.load(tmp_path / "both", "secret").decrypt(again.encrypt(b"y")) == b"y"
    with pytest.raises(ValueError, match=r"Encryption key|password"):
        RSAEncryption.load(tmp_path / "both", "wrong")


class Reversed(Encryption):
    """No encryption to trust, but one that can be seen to work."""

    def encrypt(self, data: bytes) -> bytes:
        return data[::-1]

    def decrypt(self, data: bytes) -> bytes:
        return data[::-1]


def test_an_encryption_of_the_users_own_locks_the_key_of_what_is_written(tmp_path: Path) -> None:
    optimize(recipes.number, [1, 2], str(tmp_path / "o"), chunk_size=1, num_workers=0, encryption=Reversed())
    assert list(StreamingDataset(str(tmp_path / "o"), encryption=Reversed())) == [1, 2]
    with pytest.raises(Exception, match="is encrypted"):
        StreamingDataset(str(tmp_path / "o"))[0]
    with pytest.raises(UnsupportedArgument, match="no subclass"):
        optimize(recipes.number, [1], str(tmp_path / "p"), chunk_size=1, encryption="secret")


def test_an_encryption_without_encrypt_reads_and_does_not_write(tmp_path: Path) -> None:
    class Mine(Encryption):
        def decrypt(self, data: bytes) -> bytes:
            return RSAEncryption.load(FIXTURES / "rsa-sample" / "key.json", "correct horse").decrypt(data)

    assert StreamingDataset(str(FIXTURES / "rsa-sample"), encryption=Mine())[2]["id"] == 2
    with pytest.raises(UnsupportedArgument, match="Mine has no method encrypt"):
        optimize(recipes.number, [1], str(tmp_path), chunk_size=1, encryption=Mine())


def test_keys_are_given_to_a_dataset_that_has_none(tmp_path: Path) -> None:
    place = str(tmp_path / "o")
    optimize(recipes.sample, list(range(5)), place, chunk_size=2, num_workers=0)
    assert Path(build_keys_index(place, lambda sample: f"k{sample['i']}", num_shards=4)).is_dir()
    assert StreamingDataset(place).get_by_key("k3")["i"] == 3
    with pytest.raises(FileExistsError, match="overwrite=True"):
        build_keys_index(place, lambda sample: sample["i"])
    build_keys_index(place, lambda sample: sample["i"] * 10, overwrite=True)
    assert StreamingDataset(place).get_by_key(40)["i"] == 4


def test_indexes_that_litdatas_workers_left_are_put_together(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    shutil.copytree(FIXTURES / "tree", folder)
    assert complete_dataset(str(folder)) == str(folder)
    whole = json.loads((folder / "index.json").read_text())
    (folder / "index.json").unlink()
    assert not is_complete_dataset(str(folder))
    for rank, chunks in enumerate([whole["chunks"][:1], whole["chunks"][1:]]):
        (folder / f"{rank}.index.json").write_text(json.dumps({"chunks": chunks, "config": whole["config"]}))
    complete_dataset(str(folder))
    assert len(StreamingDataset(str(folder))) == len(StreamingDataset(str(FIXTURES / "tree")))
    assert sorted(path.name for path in folder.glob("*.json")) == ["index.json"]
    with pytest.raises(FileNotFoundError, match="no worker index shards"):
        complete_dataset(str(tmp_path))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    files = tmp_path / "hub"
    for split, first in (("train", 0), ("test", 100)):
        (files / "data").mkdir(parents=True, exist_ok=True)
        rows = [{"id": first + i, "text": f"t{i}", "tags": ["a"] * (i % 3)} for i in range(7)]
        path = files / "data" / f"{split}-00000-of-00001.parquet"
        parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return files


def test_a_dataset_of_the_hub_is_found_indexed_read_and_written(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WebServer(hub) as files, HubServer(hub, files=files.address) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        out = optimize_hf("owner/name", str(tmp_path / "a"), split="train", num_workers=0)
        assert [(s["id"], s["text"], s["tags"]) for s in StreamingDataset(out)] == [
            (i, f"t{i}", ["a"] * (i % 3)) for i in range(7)
        ]
        asked = len(server.requests)
        assert optimize_hf("owner/name", out, split="test") == out  # it is there already
        assert len(server.requests) == asked
        optimize_hf("owner/name", out, split="test", overwrite=True, num_workers=0)
        assert [sample["id"] for sample in StreamingDataset(out)] == list(range(100, 107))
        made = str(tmp_path / "made")
        optimize_hf("owner/name", made, split="test", fn=recipes.text_of, num_workers=0, chunk_size=2)
        assert list(StreamingDataset(made)) == [f"{100 + i} t{i}" for i in range(7)]
        url = "hf://datasets/owner/name/data"
        assert Path(index_hf_dataset(url, str(tmp_path))) == tmp_path
        assert len(StreamingDataset(url)) == 14
        with pytest.raises(FileNotFoundError, match="No parquet files found for 'owner/name'"):
            optimize_hf("owner/name", str(tmp_path / "b"), split="validation")
    with pytest.raises(ValueError, match="URLs must start with 'hf://'"):
        index_hf_dataset("s3://x")


class Shelf(Downloader):
    """Files of a folder, under an address of our own."""

    fetched: ClassVar[list[str]] = []

    def download_file(self, remote_chunkpath: str, local_chunkpath: str) -> None:
        assert self._storage_options == {"shelf": 3}
        Shelf.fetched.append(remote_chunkpath)
        shutil.copy(remote_chunkpath.removeprefix("shelf:/"), local_chunkpath)


@pytest.mark.parametrize("kind", ["ours", "litdata"])
def test_an_address_of_the_users_own_is_read_by_a_downloader(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = FIXTURES / "rsa-sample" if kind == "litdata" else tmp_path / "o"
    key = RSAEncryption.load(folder / "key.json", "correct horse") if kind == "litdata" else None
    if kind == "ours":
        optimize(lambda i: {"id": i}, list(range(4)), str(folder), chunk_size=2, num_workers=0)
    register_downloader("shelf://", Shelf)
    try:
        with pytest.raises(ValueError, match="already registered"):
            register_downloader("shelf://", Shelf)
        options = {"shelf": 3}
        for _ in range(2):
            dataset = StreamingDataset(f"shelf:/{folder}", storage_options=options, encryption=key)
            assert [sample["id"] for sample in dataset] == [0, 1, 2, 3]
        once = [path for path in Shelf.fetched if path.endswith((".bin", ".shard")) and "index" not in path]
        assert len(once) == len(set(once)) >= 1
        with pytest.raises(ValueError, match="doesn't contain any index"):
            StreamingDataset(f"shelf:/{tmp_path}/none", storage_options=options)
    finally:
        unregister_downloader("shelf://")
        Shelf.fetched.clear()
    with pytest.raises(StoreError, match="shelf:// is not known"):
        StreamingDataset(f"shelf:/{folder}")


def test_a_plan_binds_to_processors_of_its_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    (tmp_path / "node0").mkdir()
    (tmp_path / "node0" / "cpulist").write_text(",".join(map(str, sorted(allowed))))
    monkeypatch.setattr("blixt.compat.litdata.core.affinity._NODES", tmp_path)
    plan = get_numa_affinity(0, bind_memory=False)
    assert plan.cpus == tuple(sorted(allowed))
    try:
        NumaAffinity(0, plan.cpus[:1], bind_memory=False)(3)
        assert os.sched_getaffinity(0) == {plan.cpus[0]}
    finally:
        os.sched_setaffinity(0, allowed)
    with pytest.raises(ValueError, match="must belong to the selected NUMA node"):
        NumaAffinity(0, (max(allowed) + 1,), bind_memory=False).bind()
    with pytest.raises(RuntimeError, match="CPU topology is unavailable for NUMA node 7"):
        get_numa_affinity(7)
    assert parse_list("0-2,5\n") == {0, 1, 2, 5}


def test_a_plan_for_a_gpu_asks_where_the_card_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Card:
        pci_domain_id, pci_bus_id, pci_device_id = 0, 0x3B, 0

    def card(device: Any) -> type[Card]:
        return Card

    monkeypatch.setattr(torch.cuda, "get_device_properties", card)
    monkeypatch.setattr("blixt.compat.litdata.core.affinity._PCI", tmp_path)
    with pytest.raises(RuntimeError, match=r"0000:3b:00\.0 has no NUMA node"):
        get_gpu_affinity()


DEBUGGED = """
from blixt.compat.litdata import breakpoint
import multiprocessing

def work(secret):
    breakpoint()
    print("went on", flush=True)

if __name__ == "__main__":
    worker = multiprocessing.get_context("fork").Process(target=work, args=(41,))
    worker.start()
    worker.join()
"""


def test_a_breakpoint_in_a_worker_talks_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(DEBUGGED)
    master, terminal = pty.openpty()
    own_session = "import os, fcntl, termios, sys; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    run = own_session + "os.execv(sys.executable, [sys.executable, 'script.py'])"
    process = subprocess.Popen(
        [sys.executable, "-c", run], stdin=terminal, stdout=terminal, stderr=terminal, cwd=tmp_path
    )
    os.close(terminal)
    said = b""
    while b"(Pdb)" not in said:
        said += os.read(master, 1000)
    os.write(master, b"p secret + 1\n")
    while b"42" not in said:
        said += os.read(master, 1000)
    os.write(master, b"continue\n")
    while b"went on" not in said:
        said += os.read(master, 1000)
    assert process.wait(60) == 0
    os.close(master)
