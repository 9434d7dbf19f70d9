"""Which test shows that a known fault of other loaders is not ours: LitData's seven, and many issues.

The tests stand where their subject is; this is the way from the fault to them.
"""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DEFECTS = {
    "1 rows of a shuffled epoch decoded 15 times": "shuffled_epoch_reads_each_row_once",
    "2 a chunk that two workers share read whole for each window": "two_workers_on_one_shard_fetch",
    "3 reading at random from S3 fails for plain values": "dicts_of_plain_values_are_read_at_random; "
    "one_sample_costs_the_end_of_its_shard_once",
    "4 endpoints of plain http fail": "and_a_plain_http_endpoint_works",
    "5 a flipped byte gives wrong samples": "flipped_byte_never_gives_a_wrong_sample; "
    "any_damage_to_a_shard_is_noticed",
    "6 resume under another topology repeats and misses rows": "resume_under_another_batch_size; "
    "resume_under_another_world_size; every_global_batch_is_the_same",
    "7 batches are of one place": "batch_holds_rows_from_all_over",
}
ISSUES = {
    "litdata#566 #367 #245 #140 litgpt#1716 (a chunk vanishes)": "cache_smaller_than_what_is_read; "
    "what_another_process_reads_stays; views_stay_readable_after_their_file_was_evicted",
    "litdata#533 (the last chunk stays)": "evicted_shards_are_let_go_of",
    "litdata#375 #471 (races when the cache is measured)": "two_jobs_at_once_read_everything_right; "
    "readers_killed_at_random_leave_no_wrong_byte",
    "litdata#452 #306 (hangs after a loop was left)": "loop_that_was_broken_off",
    "litdata#213 #636 (hangs with other workers)": "workers_again",
    "litdata#408 (hangs under DDP)": "two_processes_under_accelerate",
    "litdata#280 streaming#617 #964 (waits for ever)": "thread_that_hangs_is_an_error; "
    "worker_that_hangs_is_named",
    "litdata#694 (more than the length)": "length_is_the_number; stopping_after_the_last",
    "litdata#363 #331 #316 #248 #24 (resume)": "any_history_of_ranks_batches_workers_and_modes",
    "litdata#263 (a state of other data)": "state_of_other_data_is_refused",
    "no elastic resume of mixes": "mixes_and_zips_resume; any_history_of_topologies_gives_a_mix",
    "litdata#797 (shuffles within chunks)": "window_of_all_blocks_is_an_exact_global_shuffle",
    "litdata#328 #310 (lengths)": "length_is_the_number_of_batches",
    "litdata#199 #185 #265 (mixes)": "odd_batch_sizes_work; equal_weights_give_equal_counts",
    "litdata#658 (mixes that go round)": "each_rule_of_ending; going_round_again_is_another_order",
    "litdata#696 (ds[0] ignores shuffle)": "first_item_of_a_shuffled_dataset",
    "litdata#575 (returns before workers end)": "all_workers_have_ended",
    "litdata#299 (large partials)": "large_bound_argument_travels_once_per_worker",
    "litdata#417 (slow, stuck)": "many_small_inputs_do_not_slow_down",
    "litdata#137 (no resume of a build)": "finished_units_are_not_done_again",
    "chunks appended twice by several nodes": "append_by_several_nodes_appends_once; "
    "three_nodes_build_and_append_once",
    "litdata#776 (credentials that expire)": "temporary_ones_are_renewed_before_they_expire; "
    "credentials_that_expire_in_the_middle_of_an_epoch",
    "litdata#907 streaming#522 #652 #264 #758 datasets#7269 (memory)": "memory_is_bounded_however; "
    "memory_of_the_order_does_not_grow; unpacked_blocks_stay_within",
    "litdata#368 (sharding cannot be switched off)": "distribution_can_be_switched_off",
    "litdata#562 (every rank indexes)": "other_ranks_of_a_machine_index_nothing_again",
    "streaming#717 #457 #813 (names of shared memory collide)": "nothing_is_left_when_the_parent_is_killed; "
    "workers_live_on_from_epoch_to_epoch",
    "no checksum anywhere": "every_byte_of_a_shard_counts; flipped_byte_in_any_file_is_named",
}


@pytest.fixture(scope="module")
def names() -> list[str]:
    """The names of all tests of data."""
    trees = [ast.parse(path.read_text()) for path in HERE.rglob("test_*.py")]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [function.name for function in functions if function.name.startswith("test_")]


@pytest.mark.parametrize("fault", [*DEFECTS, *ISSUES])
def test_every_fault_has_its_tests(fault: str, names: list[str]) -> None:
    for shown in ({**DEFECTS, **ISSUES})[fault].split("; "):
        assert any(shown in name for name in names), f"no test is called ...{shown}..."
