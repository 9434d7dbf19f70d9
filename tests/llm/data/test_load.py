import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blixt.data import Dataset, Json, optimize
from blixt.llm.data import Chat, Completion, Example, Judged, Preference, Task, Text, load_examples, split
from blixt.llm.errors import CorpusError

SAID = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
ROWS: dict[str, dict[str, Any]] = {
    "text": {"text": "Once upon a time."},
    "chat": {"messages": SAID},
    "instruction": {"instruction": "Add.", "input": "2 and 2", "output": "4"},
    "completion": {"prompt": "2 + 2 =", "completion": " 4"},
    "preference": {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"},
    "judged": {"prompt": "2 + 2 =", "completion": " 5", "label": False},
    "task": {"prompt": "2 + 2 =", "answer": "4"},
}
ORIGIN = "list row 1"
EXAMPLES: dict[str, Example] = {
    "text": Text("Once upon a time.", ORIGIN),
    "chat": Chat(tuple(SAID), origin=ORIGIN),
    "instruction": Chat(
        ({"role": "user", "content": "Add.\n\n2 and 2"}, {"role": "assistant", "content": "4"}), origin=ORIGIN
    ),
    "completion": Completion("2 + 2 =", " 4", ORIGIN),
    "preference": Preference(
        Completion("2 + 2 =", " 4", ORIGIN), Completion("2 + 2 =", " 5", ORIGIN), ORIGIN
    ),
    "judged": Judged(Completion("2 + 2 =", " 5", ORIGIN), False, ORIGIN),
    "task": Task((), "2 + 2 =", (), {"answer": "4"}, ORIGIN),
}


@pytest.mark.parametrize("kind", ROWS)
def test_the_kind_of_a_row_is_found_by_its_fields(kind: str) -> None:
    assert load_examples([ROWS[kind]]) == [EXAMPLES[kind]]
    assert load_examples([ROWS[kind]], kind) == [EXAMPLES[kind]]  # type: ignore[arg-type]


def jsonl(folder: Path) -> Any:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(ROWS["chat"]) for _ in range(3)) + "\n\n")
    return path


def json_list(folder: Path) -> Any:
    path = folder / "rows.json"
    path.write_text(json.dumps([ROWS["chat"]] * 3))
    return path


def json_wrapped(folder: Path) -> Any:
    path = folder / "rows.json"
    path.write_text(json.dumps({"data": [ROWS["chat"]] * 3}))
    return path


def json_that_is_lines(folder: Path) -> Any:
    return jsonl(folder).rename(folder / "rows.json")


def parquet(folder: Path) -> Any:
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = folder / "rows.parquet"
    writer.write_table(arrow.Table.from_pylist([ROWS["chat"]] * 3), path, row_group_size=2)
    return path


def hugging_face(folder: Path) -> Any:
    return pytest.importorskip("datasets").Dataset.from_list([ROWS["chat"]] * 3)


def hugging_face_saved(folder: Path) -> Any:
    hugging_face(folder).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def hugging_face_stream(folder: Path) -> Any:
    return hugging_face(folder).to_iterable_dataset()


def row(number: int) -> dict[str, Any]:
    return {"messages": Json(ROWS["chat"]["messages"])}


def own_dataset(folder: Path) -> Any:
    optimize(row, range(3), folder / "shards", num_workers=0)
    return Dataset(folder / "shards")


def own_folder(folder: Path) -> Any:
    own_dataset(folder)
    return str(folder / "shards")


def folder_of_files(folder: Path) -> Any:
    (folder / "a.jsonl").write_text(json.dumps(ROWS["chat"]) * 1)
    (folder / "b.json").write_text(json.dumps([ROWS["chat"]] * 2))
    (folder / "notes.csv").write_text("not,read")
    return folder


def generator(folder: Path) -> Any:
    return (ROWS["chat"] for _ in range(3))


SOURCES: list[Callable[[Path], Any]] = [
    jsonl,
    json_list,
    json_wrapped,
    json_that_is_lines,
    parquet,
    hugging_face,
    hugging_face_saved,
    hugging_face_stream,
    own_dataset,
    own_folder,
    folder_of_files,
    generator,
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_the_same_rows_come_from_any_source(source: Callable[[Path], Any], tmp_path: Path) -> None:
    examples = load_examples(source(tmp_path))
    assert [example.messages for example in examples if isinstance(example, Chat)] == [tuple(SAID)] * 3


def test_one_chat_in_a_json_file_is_a_row_and_not_a_list_of_rows(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(ROWS["chat"]))
    assert len(load_examples(tmp_path / "one.json")) == 1


def test_text_files_are_a_document_each(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.md").write_text("first")
    (tmp_path / "code.py").write_text("x = 1")
    assert [e.text for e in load_examples(tmp_path) if isinstance(e, Text)] == ["first", "second"]
    assert [e.text for e in load_examples(tmp_path, pattern="*.py") if isinstance(e, Text)] == ["x = 1"]
    assert len(load_examples([tmp_path / "b.txt", tmp_path / "code.py"])) == 2


def test_share_gpt_conversations_become_messages() -> None:
    turns = [
        {"from": "system", "value": "Be short."},
        {"from": "human", "value": "2 + 2?"},
        {"from": "gpt", "value": "4"},
    ]
    (chat,) = load_examples([{"conversations": turns}])
    assert isinstance(chat, Chat)
    assert chat.messages == ({"role": "system", "content": "Be short."}, *SAID)


def test_columns_of_lists_become_messages() -> None:
    columns = {"role": ["user", "assistant"], "content": ["2 + 2?", "4"]}
    (chat,) = load_examples([{"messages": columns}])
    assert isinstance(chat, Chat)
    assert chat.messages == tuple(SAID)


def test_tool_calls_and_tools_are_kept() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
    messages = [SAID[0], {"role": "assistant", "content": None, "tool_calls": [call]}]
    tools = [{"type": "function", "function": {"name": "add"}}]
    (chat,) = load_examples([{"messages": messages, "tools": json.dumps(tools)}])
    assert isinstance(chat, Chat)
    assert chat.messages[1] == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert chat.tools == tuple(tools)


def test_conversations_of_a_preference_share_their_prompt_whether_written_once_or_twice() -> None:
    asked, right, wrong = SAID[0], SAID[1], {"role": "assistant", "content": "5"}
    written_once = {"prompt": [asked], "chosen": [right], "rejected": [wrong]}
    written_twice = {"chosen": [asked, right], "rejected": [asked, wrong]}
    both = {"prompt": [asked], "chosen": [asked, right], "rejected": [asked, wrong]}
    for row in (written_once, written_twice, both):
        (pair,) = load_examples([row])
        assert isinstance(pair, Preference)
        assert isinstance(pair.chosen, Chat)
        assert isinstance(pair.rejected, Chat)
        assert pair.chosen.messages == (asked, right)
        assert pair.rejected.messages == (asked, wrong)
        assert pair.chosen.learned_from == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "?", "reply": "!"}, "has the fields question, reply, which are those of no kind"),
        ({"messages": "hello"}, "field 'messages' is a text, not a list"),
        ({"messages": []}, "field 'messages' is empty"),
        ({"messages": [{"content": "hi"}]}, r"messages\[0\] has no 'role'"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\] has no 'content'"),
        ({"messages": [SAID[0]]}, "no message of the assistant"),
        ({"messages": [{"role": "user", "content": 4}]}, "'content' is a int"),
        ({"prompt": "a", "completion": 3}, "field 'completion' is a int, not a text"),
        ({"prompt": "a", "completion": ""}, "field 'completion' is empty"),
        ({"prompt": "a", "completion": "b", "label": "yes"}, "'label' is 'yes', not true or false"),
        ({"chosen": "a", "rejected": "b"}, "field 'prompt' is missing"),
        ({"chosen": [SAID[1]], "rejected": [SAID[0]]}, "no first message in common"),
        ({"messages": SAID, "tools": "{"}, "field 'tools' is not JSON"),
        ({"messages": SAID, "tools": "3"}, "field 'tools' is not a list"),
    ],
)
def test_a_wrong_row_is_named_with_file_line_and_field(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(CorpusError, match=message) as error:
        load_examples(path)
    assert "rows.jsonl:2" in str(error.value)


def test_all_rows_must_be_of_the_first_ones_kind() -> None:
    with pytest.raises(CorpusError, match="row 2: field 'text' is missing"):
        load_examples([ROWS["text"], ROWS["chat"]])


def test_broken_files_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    with pytest.raises(CorpusError, match=r"a\.jsonl:2 is not JSON"):
        load_examples(tmp_path / "a.jsonl")
    (tmp_path / "b.json").write_text('[\n{"text": }]')
    with pytest.raises(CorpusError, match=r"b\.json:2 is not JSON"):
        load_examples(tmp_path / "b.json")
    (tmp_path / "c.txt").write_bytes(b"abc\xff")
    with pytest.raises(CorpusError, match=r"c\.txt is not UTF-8 text: byte 3"):
        load_examples(tmp_path / "c.txt")
    (tmp_path / "d.jsonl").write_text('"a"\n')
    with pytest.raises(CorpusError, match=r"d\.jsonl:1 is a str: a row is an object"):
        load_examples(tmp_path / "d.jsonl")
    (tmp_path / "e.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(CorpusError, match=r"e\.parquet is no Parquet file"):
        load_examples(tmp_path / "e.parquet")


def test_sources_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        load_examples(tmp_path / "absent.jsonl")
    with pytest.raises(CorpusError, match=r"has no file of \.jsonl"):
        load_examples(tmp_path)
    with pytest.raises(CorpusError, match="choose one of train, test"):
        load_examples({"train": [], "test": []})
    with pytest.raises(CorpusError, match="kind='chats' is none"):
        load_examples([], "chats")  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="no example in the list"):
        load_examples([])
    with pytest.raises(CorpusError, match="a int is no source"):
        load_examples(3)


def test_limit_reads_no_further(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\nbroken')
    assert len(load_examples(tmp_path / "a.jsonl", limit=1)) == 1


def test_an_example_is_held_out_wherever_it_stands_and_whatever_is_added() -> None:
    rows = [{"text": f"document {i}"} for i in range(400)]
    train, held_out = split(load_examples(rows), 0.1)
    assert len(train) + len(held_out) == 400
    assert 20 < len(held_out) < 60
    texts = {e.text for e in held_out if isinstance(e, Text)}
    more = rows[::-1] + [{"text": f"more {i}"} for i in range(100)]
    _, again = split(load_examples(more), 0.1)
    assert texts <= {e.text for e in again if isinstance(e, Text)}
    _, other = split(load_examples(rows), 0.1, seed=1)
    assert texts != {e.text for e in other if isinstance(e, Text)}


def test_copies_never_lie_on_both_sides() -> None:
    train, held_out = split(load_examples([{"text": f"{i % 50}"} for i in range(500)]), 0.2)
    assert not {e.text for e in train if isinstance(e, Text)} & {
        e.text for e in held_out if isinstance(e, Text)
    }


def test_a_split_holds_out_at_least_one_and_tells_when_it_cannot() -> None:
    train, held_out = split(load_examples([{"text": "a"}, {"text": "b"}, {"text": "c"}]), 0.001)
    assert (len(train), len(held_out)) == (2, 1)
    assert split(train, 0.0) == (train, [])
    with pytest.raises(CorpusError, match="too few to hold some out"):
        split(load_examples([{"text": "a"}, {"text": "a"}]), 0.5)
    with pytest.raises(CorpusError, match=r"fraction=1"):
        split(train, 1)
