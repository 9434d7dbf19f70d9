import sysconfig
from pathlib import Path

import numpy as np
import pytest

from blixt.data import DatasetExistsError, TokenDataset
from blixt.llm import CorpusError, Tokenizer, TokenizerError, prepare, train_tokenizer
from blixt.llm.corpus import find_texts

STDLIB = Path(sysconfig.get_path("stdlib"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    tokenizer = train_tokenizer([STDLIB / "json"], out=folder / "tok" / "tokenizer.json", vocab_size=400)
    prepare([STDLIB / "json"], tokenizer=tokenizer, out=folder / "data", val_fraction=0.3, workers=1)
    return folder / "data"


def test_the_streams_hold_every_document_in_turn_with_an_end_token_after_each(prepared: Path) -> None:
    tokenizer = Tokenizer.load(prepared)
    files = find_texts([STDLIB / "json"], "*.py", "8MB")
    held_out = round(len(files) * 0.3)
    for part, expected in {"val": files[:held_out], "train": files[held_out:]}.items():
        tokens = TokenDataset(prepared / part, 1, overlap=0)
        ids = np.concatenate([tokens.gather(np.arange(len(tokens)))]).ravel()
        documents = np.split(ids, np.flatnonzero(ids == tokenizer.eos) + 1)[:-1]
        assert [tokenizer.decode(document) for document in documents] == [f.read_text() for f in expected]


def test_a_prepared_folder_is_not_written_over(prepared: Path) -> None:
    before = sorted(p for p in prepared.rglob("*"))
    with pytest.raises(DatasetExistsError, match="prepared already"):
        prepare([STDLIB / "json"], tokenizer=prepared / "tokenizer.json", out=prepared)
    assert sorted(p for p in prepared.rglob("*")) == before


def test_the_choice_of_files_does_not_depend_on_where_they_lie(tmp_path: Path) -> None:
    for root in ("a", "b/c"):
        for name in ("x.py", "sub/y.py", "sub/z.py", "site-packages/no.py", "note.txt"):
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("pass\n")
    names = [
        [str(path.relative_to(tmp_path / root)) for path in find_texts([tmp_path / root], "*.py", "1KB")]
        for root in ("a", "b/c")
    ]
    assert names[0] == names[1]
    assert sorted(names[0]) == ["sub/y.py", "sub/z.py", "x.py"]


def test_max_bytes_bounds_what_is_read() -> None:
    chosen = find_texts([STDLIB], "*.py", "100KB")
    assert 90_000 < sum(path.stat().st_size for path in chosen) <= 100_000


@pytest.mark.parametrize(
    ("inputs", "options", "sentence"),
    [
        (["/no/such/folder"], {}, "/no/such/folder does not exist"),
        ([STDLIB / "json"], {"pattern": "*.rs"}, r"\*\.rs"),
        ([STDLIB / "json"], {"max_bytes": "many"}, "max_bytes='many'"),
        ([STDLIB / "json" / "tool.py"], {}, "too few"),
        ([STDLIB / "json"], {"val_fraction": 1.5}, r"val_fraction=1\.5"),
    ],
)
def test_impossible_corpora_are_refused_with_what_to_change(
    prepared: Path, tmp_path: Path, inputs: list[Path], options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(CorpusError, match=sentence):
        prepare(inputs, tokenizer=prepared / "tokenizer.json", out=tmp_path / "out", **options)
    assert not (tmp_path / "out" / "train").exists()


def test_a_missing_tokenizer_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="train-tokenizer"):
        prepare([STDLIB / "json"], tokenizer=tmp_path / "no.json", out=tmp_path)
