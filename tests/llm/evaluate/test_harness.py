"""lm-eval on our engine against lm-eval's own transformers class, on the same files of the same model."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from blixt.llm.api import LLM
from blixt.llm.errors import EvaluationError
from blixt.llm.evaluate import EngineLM, evaluate_tasks
from blixt.llm.model import GPT
from blixt.llm.tokenizer import END, Tokenizer

TEXTS = ["def wrap(text, width=70):", "class TextWrapper:\n    def __init__(self", "import json\n", "x" * 90]
PAIRS = [
    ("def encode(self, o):", " return o"),
    ("The quick brown ", "fox"),
    ("", "import"),
    ("json " * 80, "dumps(obj)"),
    ("a", " b" * 20),
]


@pytest.fixture(scope="module")
def folder(model: GPT, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    LLM(model, tokenizer).save(path)
    return path


@pytest.fixture(scope="module")
def ours(folder: Path) -> EngineLM:
    return EngineLM(LLM.load(folder), max_gen_toks=12)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> HFLM:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token=END)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.generation_config.pad_token_id = tokenizer.eos_token_id
    return HFLM(model, tokenizer=tokenizer, batch_size=1, max_length=64, add_bos_token=False)


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, args, index) for index, args in enumerate(arguments)]


def test_loglikelihoods_agree(ours: EngineLM, theirs: HFLM) -> None:
    requests = instances("loglikelihood", PAIRS)
    found = ours.loglikelihood(requests, disable_tqdm=True)
    wanted = theirs.loglikelihood(requests, disable_tqdm=True)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in wanted], rel=1e-4)


def test_rolling_loglikelihoods_agree_also_beyond_the_context(ours: EngineLM, theirs: HFLM) -> None:
    requests = instances("loglikelihood_rolling", [(text,) for text in (*TEXTS, " ".join(TEXTS) * 4)])
    found = ours.loglikelihood_rolling(requests, disable_tqdm=True)
    assert found == pytest.approx(theirs.loglikelihood_rolling(requests, disable_tqdm=True), rel=1e-4)


@pytest.mark.parametrize("until", [["\n\n"], ["e", "("], []])
def test_generated_answers_agree(ours: EngineLM, theirs: HFLM, until: list[str]) -> None:
    options = {"until": until, "max_gen_toks": 12, "do_sample": False}
    requests = instances("generate_until", [(text, dict(options)) for text in TEXTS])
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks with their data in local files."""
    path = tmp_path_factory.mktemp("tasks")
    rows = [
        {"q": "def encode(self, o):", "options": ["return", "width", "json"], "label": 0},
        {"q": "self.width =", "options": ["width", "a", "0"], "label": 0},
        {"q": "import", "options": ["json", "zebra crossing", "re"], "label": 2},
    ]
    (path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    shared = f"""
dataset_path: json
dataset_kwargs:
  data_files: {path}/rows.jsonl
test_split: train
"""
    (path / "choose.yaml").write_text(
        f"""task: local_choose{shared}output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_norm
"""
    )
    (path / "write.yaml").write_text(
        f"""task: local_write{shared}output_type: generate_until
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{options[label]}}}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 6
metric_list:
  - metric: exact_match
"""
    )
    return path


def test_local_tasks_run_and_agree(
    ours: EngineLM, theirs: HFLM, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.setitem(os.environ, "HF_DATASETS_OFFLINE", "1")
    names = ["local_choose", "local_write"]
    found = {(one.task, one.metric): one for one in evaluate_tasks(ours.llm, names, include=tasks)}
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    wanted = simple_evaluate(model=theirs, tasks=names, task_manager=manager, bootstrap_iters=10)
    assert set(found) == {
        ("local_choose", "acc"),
        ("local_choose", "acc_norm"),
        ("local_write", "exact_match"),
    }
    for (task, metric), one in found.items():
        assert one.value == pytest.approx(wanted["results"][task][f"{metric},none"])
        assert one.count == 3


def test_an_unknown_task_is_refused(ours: EngineLM, tasks: Path) -> None:
    with pytest.raises(EvaluationError, match="knows no task 'no_such_task'"):
        evaluate_tasks(ours.llm, ["no_such_task"], include=tasks)


def test_data_that_cannot_be_read_are_told_in_a_sentence(ours: EngineLM, tasks: Path, tmp_path: Path) -> None:
    text = (tasks / "choose.yaml").read_text()
    (tmp_path / "lost.yaml").write_text(text.replace("rows.jsonl", "lost.jsonl"))
    with pytest.raises(EvaluationError, match=r"the data of local_choose cannot be read \(.*lost\.jsonl"):
        evaluate_tasks(ours.llm, ["local_choose"], include=tmp_path)


def test_an_answer_longer_than_the_context_is_refused(ours: EngineLM) -> None:
    with pytest.raises(EvaluationError, match="leaves no room for a prompt in the context of 64"):
        ours.generate_until(instances("generate_until", [("a", {"max_gen_toks": 64})]))
