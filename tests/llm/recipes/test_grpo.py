import inspect
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.llm.recipes.small import run_and_kill, small_model, source_lines, write_rows

from blixt.llm.attention import Packed
from blixt.llm.errors import RecipeError
from blixt.llm.lora import LoRAConfig, add_lora
from blixt.llm.losses import PolicyLoss
from blixt.llm.recipes.config_files import hub
from blixt.llm.recipes.grpo import GRPOConfig, grpo
from blixt.llm.recipes.grpo_model import PolicyModel
from blixt.llm.recipes.grpo_rollouts import Answer, Writer, pack_answers, tasks_of_step
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint

BRACKETS: list[dict[str, Any]] = [{"kind": "regex", "pattern": "[(]"}]
QUICK: dict[str, Any] = {
    "steps": 16,
    "prompts": 6,
    "group": 6,
    "max_prompt": 64,
    "max_tokens": 6,
    "micro_batch_size": 2,
    "block_size": 128,
    "val_fraction": 0.15,
    "optim.learning_rate": 6e-3,
    "parallel.devices": 1,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"), steps=60)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines of Python to go on from: the reward is for an opening bracket in what follows."""
    rows = [{"prompt": line} for line in source_lines(textwrap)[:80]]
    return write_rows(tmp_path_factory.mktemp("data") / "tasks.jsonl", rows)


def test_a_reward_that_can_be_checked_rises(model: Path, tasks: Path, tmp_path: Path) -> None:
    found = grpo(model, tasks, BRACKETS, out=str(tmp_path / "out"), **QUICK)
    assert found["first_reward"] < 0.4
    assert found["reward"] > 0.9
    assert found["answers"] == 16 * 36
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()


def test_several_updates_with_a_reference_raise_it_too(model: Path, tasks: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "updates": 2, "loss.beta": 0.02, "loss.level": "sequence", "steps": 10}
    settings |= {"adapt": "full", "optim.learning_rate": 3e-3, "scale_advantages": False}
    found = grpo(model, tasks, BRACKETS, out=str(tmp_path / "out"), **settings)
    assert found["reward"] > found["first_reward"] + 0.4


def writer_of(policy: Any, model: Path, **changes: Any) -> Writer:
    settings: dict[str, Any] = {"max_prompt": 48, "max_tokens": 8, "temperature": 1.0, "max_batch": 8}
    return Writer(policy, Tokenizer.load(model), **{**settings, **changes})


def test_answers_come_from_the_weights_as_they_are(model: Path, tasks: Path) -> None:
    policy = add_lora(load_checkpoint(model), LoRAConfig())
    writer = writer_of(policy, model)
    prompts = [[5, 6, 7, 8], [9, 10, 11]]
    before = writer.write(prompts, [1, 2], 3)
    assert [a.ids for a in writer.write(prompts, [1, 2], 3)] == [a.ids for a in before]
    assert len({tuple(a.ids) for a in before[:3]}) > 1, "answers of a group differ"
    for name, parameter in policy.named_parameters():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(parameter, std=0.5)
    assert [a.ids for a in writer.write(prompts, [1, 2], 3)] != [a.ids for a in before]


def test_the_policy_trains_after_it_has_written(model: Path) -> None:
    policy = load_checkpoint(model, copy=True).train()
    writer_of(policy, model).write([[5, 6, 7]], [0], 2)
    assert policy.training
    policy(torch.tensor([[1, 2, 3]])).sum().backward()


def test_packed_answers_have_the_logprobs_that_each_has_alone(model: Path) -> None:
    policy = load_checkpoint(model)
    answers = writer_of(policy, model).write([[5, 6, 7, 8], [9, 10]], [1, 2], 3)
    packing = pack_answers(answers, [True] * 6, 24, 2)
    whole = PolicyModel(policy, None, PolicyLoss(), temperature=0.7)
    seen = set()
    for block, sequences in zip(packing.blocks, packing.sequences, strict=True):
        logprobs = whole.logprobs(block)
        for number in sorted(set(sequences[block.mask].tolist())):
            seen.add(number)
            answer = answers[number]
            ids = torch.tensor([answer.prompt + answer.ids])
            logits = policy(ids[:, :-1], Packed(torch.zeros_like(ids[:, :-1])))[0] / 0.7
            each = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[len(answer.prompt) - 1 :, 0]
            torch.testing.assert_close(
                logprobs[(sequences == number) & block.mask], each, rtol=1e-4, atol=1e-5
            )
    assert seen == set(range(6))
    assert packing.tokens == sum(len(a.ids) for a in answers)


def test_answers_that_do_not_count_are_not_learned() -> None:
    answers = [Answer([1, 2], [3, 4, 5], "", True), Answer([1, 2], [6, 7], "", False)]
    packing = pack_answers(answers, [True, False], 16, 1)
    assert packing.tokens == 3


def test_micro_batches_are_filled_up_with_empty_ones() -> None:
    packing = pack_answers([Answer([1, 2], [3], "", True)], [True], 8, 2).filled(3)
    assert len(packing.blocks) == len(packing.sequences) == 3
    assert not packing.blocks[2].mask.any()
    assert (packing.sequences[2] == -1).all()


def test_every_task_has_its_turn_before_one_comes_again() -> None:
    seen = [task for step in range(6) for task in tasks_of_step(step, 10, 5, seed=3)]
    for round_ in range(3):
        assert sorted(seen[10 * round_ : 10 * round_ + 10]) == list(range(10))
    assert seen[:10] != seen[10:20]


def test_a_run_that_is_killed_goes_on_bit_for_bit(
    model: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**QUICK, "model": str(model), "data": str(tasks), "rewards": BRACKETS, "checkpoint.every": 2}
    settings |= {"steps": 6, "lora.dropout": 0.1, "updates": 2}
    settings |= {"log.prompts": ["def "], "log.sample_tokens": 3}
    whole = grpo(**settings, out=str(tmp_path / "whole"))
    said = capsys.readouterr().err
    assert all(f"step {step}/6  sample 'def ' ->" in said for step in (0, 6))
    resumed = {**settings, "out": str(tmp_path / "resumed")}
    run_and_kill("blixt.llm.recipes.grpo:grpo", resumed, step=5)
    again = grpo(**resumed)
    assert again == whole
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_settings_that_cannot_work_are_told(model: Path, tasks: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="group=1: an answer is compared"):
        GRPOConfig(model="m", data="d", rewards=(), group=1)
    with pytest.raises(RecipeError, match="rewards is empty"):
        grpo(model, tasks, [], out=str(tmp_path))
    with pytest.raises(RecipeError, match=r"the prompt of .*tasks\.jsonl:\d+ has \d+ tokens.*max_prompt=4"):
        grpo(model, tasks, BRACKETS, out=str(tmp_path), max_prompt=4)
    with pytest.raises(RecipeError, match=r"rewards.*kind"):
        grpo(model, tasks, [{"kind": "exactly"}], out=str(tmp_path))


def test_the_hub_has_recipes_of_it_that_can_be_read() -> None:
    from blixt.llm.recipes.config import read

    names = [name for name in hub() if name.startswith("grpo/")]
    assert names
    for name in names:
        assert read(GRPOConfig, ["--config", name, "--data", "x"]).recipe == "grpo"


def test_the_recipe_is_short_enough_to_be_read() -> None:
    import blixt.llm.recipes.grpo as recipe

    assert len(inspect.getsource(recipe).splitlines()) <= 250
