import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from blixt.client import SourceError, pack


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def names(packed: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        return archive.getnames()


def test_files_and_folders_travel_and_caches_stay(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "train.py": "1",
            "lib/model.py": "2",
            ".git/HEAD": "x",
            ".venv/bin/python": "x",
            "lib/__pycache__/model.pyc": "x",
            "node_modules/a/index.js": "x",
        },
    )
    assert names(pack(tmp_path)) == ["lib/model.py", "train.py"]


def test_an_unchanged_folder_packs_to_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "1", "b/c.py": "2"})
    assert pack(tmp_path) == pack(tmp_path)


def test_one_file_is_a_source_too(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "1"})
    assert names(pack(tmp_path / "train.py")) == ["train.py"]


def test_ignore_files_of_every_folder_are_honoured_as_git_does(tmp_path: Path) -> None:
    files = [
        *("a.log", "keep.log", "deep/b.log", "build/x", "sub/build/x", "data/raw/1", "data/x/raw/2"),
        *("sub/secret.txt", "secret.txt", "docs/a.md", "docs/b.txt", "img1.png", "img9.png", "x y.txt"),
    ]
    write(tmp_path, dict.fromkeys(files, ""))
    write(
        tmp_path,
        {
            ".gitignore": "# notes\n*.log\n!keep.log\n/build\ndata/**/raw/\ndocs/*.md\nimg[0-5].png\n",
            "sub/.gitignore": "secret.txt\n",
        },
    )
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-standard"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert sorted(names(pack(tmp_path))) == sorted(filter(None, listed.stdout.split("\0")))


def test_a_blixtignore_adds_to_the_gitignore(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "data.bin": "", ".blixtignore": "data.bin\n.blixtignore\n"})
    assert names(pack(tmp_path)) == ["train.py"]


def test_a_folder_too_large_is_refused_with_its_largest_files(tmp_path: Path) -> None:
    write(tmp_path, {"big.bin": "x" * 3_000_000, "small.txt": "x"})
    with pytest.raises(
        SourceError, match=r"holds 3 MB, more than the 1 MB.*big\.bin \(3 MB\).*\.blixtignore"
    ):
        pack(tmp_path, max_bytes=2**20)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There is no folder .*nowhere"):
        pack(tmp_path / "nowhere")


def test_the_home_folder_is_never_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SourceError, match="not a project folder"):
        pack(tmp_path)


def test_links_inside_travel_and_links_out_are_refused(tmp_path: Path) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside.txt"
    write(tmp_path, {"source/a.txt": "1", "outside.txt": "2"})
    (source / "link").symlink_to("a.txt")
    assert names(pack(source)) == ["a.txt", "link"]
    (source / "out").symlink_to(outside)
    with pytest.raises(SourceError, match=r"out is a link to .*outside\.txt, outside the source folder"):
        pack(source)
