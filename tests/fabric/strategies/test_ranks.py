"""Strategies on real ranks; two launches, of four and of two, do all the checks of the folder `checks`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fabric.strategies.checks import FILES, data_parallel, parallel, pipelines, saving, sharding
from tests.fabric.strategies.ranks import TIMEOUT_S, Reports, run_checks
from tests.fabric.strategies.samples import TiedNet, batches, lm_loss, reference, same

from blixt.fabric import consolidate, load_safetensors
from blixt.fabric.export import export_safetensors
from blixt.fabric.strategies import SingleDeviceStrategy

FOUR = [
    saving.check_saving_with_four,
    sharding.check_hsdp,
    parallel.check_grid,
    pipelines.check_pipeline_and_shards,
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shared")
    os.environ["BLIXT_TEST_SHARED"] = str(folder)
    yield folder
    del os.environ["BLIXT_TEST_SHARED"]


@pytest.fixture(scope="module")
def four(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return run_checks(4, FOUR, tmp_path_factory.mktemp("four"))


@pytest.fixture(scope="module")
def two(four: Reports, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    every: dict[str, Any] = {
        name: value for file in FILES for name, value in vars(file).items() if name.startswith("check_")
    }
    return run_checks(
        2, [check for check in every.values() if check not in FOUR], tmp_path_factory.mktemp("two")
    )


def test_ddp_takes_all_options_of_torchs(two: Reports) -> None:
    two.of(data_parallel.check_ddp_with_all_its_options)


def test_the_verbs_of_a_strategy_answer_alike_on_all_processes(two: Reports) -> None:
    for rank, seen in enumerate(two.of(data_parallel.check_verbs)):
        assert seen.pop("places") == (rank, 2, rank == 0)
        assert seen.pop("kept") == [float(rank), 2.0]
        assert seen == {
            "broadcast": 1,
            "all_gather": [[0.0, 2.0], [1.0, 2.0]],
            "all_reduce": [1.0, 4.0],
            "reduce": [0.5, 2.0],
            "all": False,
            "any": True,
        }


def test_the_verbs_of_one_process_need_no_others() -> None:
    strategy = SingleDeviceStrategy()
    tensor = torch.tensor([1.0, 2.0])
    strategy.barrier()
    assert (strategy.global_rank, strategy.world_size, strategy.is_global_zero) == (0, 1, True)
    assert strategy.broadcast("word") == "word"
    assert strategy.all_gather(tensor).tolist() == [[1.0, 2.0]]
    assert strategy.reduce(tensor).tolist() == strategy.all_reduce(tensor, "sum").tolist() == [1.0, 2.0]
    assert strategy.reduce_boolean_decision(True)
    assert not strategy.reduce_boolean_decision(False, all=False)


def test_ddp_accumulates_without_talking_and_windows_may_end_early(two: Reports) -> None:
    two.of(data_parallel.check_ddp_accumulation)


def test_a_communication_hook_replaces_the_averaging(two: Reports) -> None:
    norms = two.of(data_parallel.check_ddp_comm_hook)[0]
    expected = reference()[2]
    assert norms != expected
    assert norms == pytest.approx(expected, rel=0.05)


def test_fsdp_trains_like_one_process_and_holds_half_of_it(two: Reports) -> None:
    held = two.of(sharding.check_fsdp)
    whole = sum(parameter.numel() for parameter in TiedNet().parameters())
    assert sum(held) == whole
    assert max(held) < 0.6 * whole


def test_fsdp_accumulates_without_talking(two: Reports) -> None:
    two.of(sharding.check_fsdp_accumulation)


def test_fsdp_reduces_a_window_that_ended_early(two: Reports) -> None:
    two.of(sharding.check_fsdp_flush)


def test_fsdp_with_recomputation_offload_and_no_resharding_trains_the_same(two: Reports) -> None:
    two.of(sharding.check_fsdp_options)


def test_fsdp_gathers_in_the_precisions_type_and_keeps_32_bit(two: Reports) -> None:
    assert two.of(sharding.check_fsdp_mixed_precision)[0] == ["torch.bfloat16", "torch.float32"]


def test_fsdp_gives_memory_to_a_module_from_the_meta_device_unit_by_unit(two: Reports) -> None:
    assert two.of(sharding.check_fsdp_from_the_meta_device) == [True, True]


def test_ranks_that_drew_other_weights_start_from_rank_zeros(two: Reports) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 3)
    norm = float(torch.stack([p.detach().norm() for p in layer.parameters()]).norm())
    assert two.of(sharding.check_ranks_that_drew_other_weights_start_from_rank_zeros) == pytest.approx(
        [norm, norm]
    )


def test_frozen_parameters_stay_and_sharding_twice_changes_nothing(two: Reports) -> None:
    two.of(sharding.check_frozen_and_sharded_twice)


def test_optimizers_made_before_sharding_follow_their_parameters(two: Reports) -> None:
    two.of(sharding.check_rebinding)


def test_tensor_parallel_trains_like_one_process_on_the_same_data(two: Reports) -> None:
    assert two.of(parallel.check_tensor_parallel) == [1, 1]


def test_a_function_of_the_users_may_shard_everything_itself(two: Reports) -> None:
    assert two.of(parallel.check_parallelize_fn) == [(0, 2), (1, 2)]


def test_wrong_plans_are_refused_with_names(two: Reports) -> None:
    two.of(parallel.check_wrong_plans)


def test_collectives_along_an_axis_wait_as_long_as_the_strategy_says(two: Reports) -> None:
    assert two.of(parallel.check_waits_along_each_axis) == [{float(TIMEOUT_S)}] * 2


def test_attention_over_divided_sequences_is_that_of_the_whole(two: Reports) -> None:
    for worst in two.of(parallel.check_attention_over_divided_sequences):
        assert max(worst) < 1e-5


def test_context_parallel_gives_each_rank_its_part_of_the_sequence(two: Reports) -> None:
    parts = two.of(parallel.check_context_parallel)
    assert sorted([*parts[0], *parts[1]]) == list(range(16))
    assert len(parts[0]) == 8


@pytest.mark.parametrize("name", ["1f1b", "gpipe", "interleaved", "zbvzerobubble", "dualpipev", "traced"])
def test_a_pipeline_trains_evaluates_and_saves_like_one_process(name: str, two: Reports) -> None:
    two.of(getattr(pipelines, f"check_pipeline_{name}"))


def test_one_attribute_of_a_module_can_be_the_pipeline_and_saves_in_shards(two: Reports) -> None:
    expected = list(pipelines.WithPipeline().state_dict())
    for names in two.of(pipelines.check_pipeline_inside_a_module):
        assert sorted(names) == sorted(expected)


def test_pipelines_that_cannot_work_are_refused(two: Reports) -> None:
    two.of(pipelines.check_pipeline_refusals)


def test_stages_of_a_pipeline_can_be_sharded_over_data(four: Reports) -> None:
    four.of(pipelines.check_pipeline_and_shards)


def test_hsdp_trains_like_one_process(four: Reports) -> None:
    assert four.of(sharding.check_hsdp) == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_shards_and_tensor_parallel_together_train_like_one_process(four: Reports) -> None:
    assert four.of(parallel.check_grid) == [(0, 2), (0, 2), (1, 2), (1, 2)]


def test_a_sharded_checkpoint_leaves_nothing_but_itself(four: Reports) -> None:
    assert four.of(saving.check_saving_with_four)[0] == ["four.ckpt", "full.ckpt", "grid.ckpt"]


def test_two_processes_read_what_four_wrote(two: Reports) -> None:
    two.of(saving.check_loading_with_two)


def test_ddp_reads_shards(two: Reports) -> None:
    two.of(saving.check_loading_shards_with_ddp)


@pytest.mark.parametrize("name", ["four.ckpt", "grid.ckpt", "full.ckpt"])
def test_one_process_reads_what_four_wrote(name: str, four: Reports, shared: Path) -> None:
    four.of(saving.check_saving_with_four)
    strategy = SingleDeviceStrategy()
    module, optimizer, content = saving.restored(strategy, shared / name)
    assert content["epoch"] == 7
    saving.assert_reference(strategy, module, optimizer)


def test_consolidation_makes_the_file_that_one_process_would_have_saved(four: Reports, shared: Path) -> None:
    four.of(saving.check_saving_with_four)
    file = consolidate(shared / "grid.ckpt", shared / "grid.pt")
    content = torch.load(file, weights_only=True)
    weights, states, _ = reference()
    same(content["state_dict"], {name: value for name, value in weights.items() if name != "seen"})
    same(content["optimizer_states"][0]["state"], states["state"])
    assert content["optimizer_states"][0]["param_groups"] == states["param_groups"]
    assert content["epoch"] == 7


def test_weights_of_shards_become_safetensors(four: Reports, shared: Path, tmp_path: Path) -> None:
    four.of(saving.check_saving_with_four)
    export_safetensors(shared / "four.ckpt", tmp_path / "w.safetensors")
    loaded = load_safetensors(tmp_path / "w.safetensors")
    module = TiedNet()
    module.load_state_dict(loaded)
    same(module.state_dict(), {k: v for k, v in reference()[0].items() if k != "seen"})


def test_shards_written_in_the_background_are_the_state_at_the_call(two: Reports) -> None:
    assert two.of(saving.check_saving_shards_in_the_background) == [["a.ckpt"], ["a.ckpt"]]


def test_a_write_that_fails_on_one_rank_is_raised_on_all(two: Reports) -> None:
    for said in two.of(saving.check_a_failed_write_is_raised_on_all_ranks):
        assert len(said) == 2


def test_shards_of_another_model_are_refused(two: Reports) -> None:
    two.of(saving.check_a_checkpoint_of_another_model_is_refused)


def test_fabrics_own_loop_shards_an_optimizer_that_was_there_before(two: Reports) -> None:
    losses = two.of(sharding.check_fabrics_own_loop)
    assert losses[0] == losses[1] == pytest.approx(_own_losses(), rel=1e-3)


def _own_losses() -> list[float]:
    """The same loop in plain torch, on whole batches."""
    torch.manual_seed(1)
    module = TiedNet()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    losses: list[float] = []
    for batch in batches():
        loss = lm_loss(module(batch[:, :-1]), batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
