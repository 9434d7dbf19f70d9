"""The doors to the libraries: data, llm, serve."""

import json
from pathlib import Path

from client.server import blixt


def test_a_missing_dataset_and_a_missing_file_are_one_sentence(tmp_path: Path) -> None:
    for words in (["data", "info", "nope"], ["llm", "generate", "nope", "def"], ["serve", "nope.py"]):
        done = blixt(*words, cwd=tmp_path)
        assert done.returncode in (1, 2), done.stderr
        assert done.stderr.startswith("error: ")
        assert "nope" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_tokenizer_and_shards_are_written_and_looked_into(tmp_path: Path) -> None:
    for name in ("add.py", "sub.py"):
        (tmp_path / name).write_text("def add(a, b):\n    return a + b\n" * 400)
    done = blixt("llm", "train-tokenizer", ".", "--vocab-size", "300", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["path"] == "tokenizer.json", done.stderr
    words = ["llm", "prepare", ".", "--tokenizer", "tokenizer.json", "--out", "tokens", "--json"]
    facts = json.loads(blixt(*words, cwd=tmp_path).stdout)
    assert facts["train"]["tokens"] > 100
    info = json.loads(blixt("data", "info", "tokens/train", "--json", cwd=tmp_path).stdout)
    assert sum(info["tokens"].values()) == facts["train"]["tokens"]
    assert blixt("data", "verify", "tokens/train", cwd=tmp_path).returncode == 0
    assert blixt("data", "head", "tokens/train", "-n", "1", cwd=tmp_path).stdout
