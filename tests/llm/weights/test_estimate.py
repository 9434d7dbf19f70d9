"""Memory worked out before loading, against what tensors really take; free memory as Linux counts it."""

from pathlib import Path

import pytest
import torch

from blixt.llm.cache import KVCache
from blixt.llm.config import LayerSpec, MLASpec, ModelConfig, MoESpec, RopeSpec
from blixt.llm.errors import TooLittleMemoryError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.quant import quantize
from blixt.llm.weights import estimate as estimating
from blixt.llm.weights import free
from blixt.llm.weights.estimate import BITS, Use, check_memory, estimate, largest_context, weight_bytes
from blixt.llm.weights.free import available, cgroup_headrooms, free_bytes

PLAIN = ModelConfig(vocab=512, d=128, layers=4, heads=4, kv_heads=2, context=256)
WINDOWED = ModelConfig(
    vocab=512,
    d=128,
    layers=4,
    heads=4,
    kv_heads=2,
    context=256,
    layer_specs=(LayerSpec("sliding", 32, rope=RopeSpec()), LayerSpec(rope=RopeSpec())) * 2,
)
LATENT = ModelConfig(
    vocab=512,
    d=128,
    layers=2,
    heads=4,
    kv_heads=4,
    context=256,
    mla=MLASpec(kv_rank=32, rope_dim=16, nope_dim=16, v_dim=16),
)
EXPERTS = ModelConfig(
    vocab=512, d=128, layers=2, heads=4, kv_heads=2, context=256, moe=MoESpec(experts=8, top_k=2, d_ff=64)
)
CPU = torch.device("cpu")


@pytest.mark.parametrize("config", [PLAIN, WINDOWED, LATENT, EXPERTS], ids=["plain", "windows", "mla", "moe"])
def test_weights_and_cache_are_what_the_tensors_take(config: ModelConfig) -> None:
    model = GPT(config)
    found = estimate(config, Use("float32", 200, batch=3))
    assert found.weights == sum(p.numel() * p.element_size() for p in model.parameters())
    cache = KVCache(config, 3, model.embed.weight, 200)
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for layer in range(config.layers)
        for tensor in cache.buffers(layer)
    }
    assert found.kv == sum(storages.values())


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_quantised_weights_take_what_was_estimated(kind: str) -> None:
    model = GPT(PLAIN).bfloat16()
    quantize(model, kind)
    taken = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    assert taken == pytest.approx(weight_bytes(PLAIN, kind), rel=0.1)


def test_a_window_bounds_the_cache() -> None:
    assert estimate(WINDOWED, Use(context=256)).kv < estimate(PLAIN, Use(context=256)).kv


def test_too_much_is_refused_with_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    use = Use("float32", 256, batch=64)
    need = estimate(PLAIN, use).total
    monkeypatch.setattr(estimating, "free_bytes", lambda device: int(need * 0.6))
    with pytest.raises(TooLittleMemoryError) as caught:
        check_memory(PLAIN, use, CPU)
    text = str(caught.value)
    assert "of float32 weights" in text
    assert f"a context of {largest_context(PLAIN, use, int(need * 0.6))} tokens" in text
    assert "or bfloat16" in text
    assert check_memory(PLAIN, Use("bfloat16", 256, batch=64), CPU).total <= need * 0.6


def test_where_nothing_would_fit_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "free_bytes", lambda device: 1000)
    with pytest.raises(TooLittleMemoryError, match="no smaller precision would either"):
        check_memory(PLAIN, Use("float32"), CPU)


def test_the_longest_context_that_fits_just_fits() -> None:
    use = Use("float32", 256, batch=8)
    free = estimate(PLAIN, Use("float32", 100, batch=8)).total
    longest = largest_context(PLAIN, use, free)
    assert longest >= 100
    assert estimate(PLAIN, Use("float32", longest, batch=8)).total <= free
    assert estimate(PLAIN, Use("float32", longest + 1, batch=8)).total > free
    assert largest_context(PLAIN, use, 10) == 0


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(WeightsError, match=f"no precision 'int7'; take one of {', '.join(BITS)}"):
        estimate(PLAIN, Use("int7"))


def test_free_memory_is_the_machines_or_less(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_bytes(CPU) > 0
    assert available(Path("/proc/meminfo")) > 0
    monkeypatch.setattr(free, "available", lambda path: 12_345)  # the real one changes from look to look
    assert free_bytes(CPU) <= 12_345


def test_available_memory_is_read_from_meminfo(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:      42 kB\n")
    assert available(tmp_path / "meminfo") == 42 * 1024
    assert available(tmp_path / "nowhere") > 1 << 60


def group(folder: Path, limit: str, used: int, files: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - files}\ninactive_file {files}\nactive_file 0\n")


def test_every_control_group_above_counts_and_its_file_pages_are_free(tmp_path: Path) -> None:
    group(tmp_path / "app" / "job", "1000", 300, 100)
    group(tmp_path / "app", "500", 400, 0)
    group(tmp_path, "max", 5000, 0)
    assert cgroup_headrooms(tmp_path, "/app/job") == [800, 100]
    assert cgroup_headrooms(tmp_path, "/") == []


def test_control_groups_of_version_1_count_too(tmp_path: Path) -> None:
    folder = tmp_path / "memory" / "app"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("700")
    (folder / "memory.usage_in_bytes").write_text("200")
    assert cgroup_headrooms(tmp_path, "/app") == [500]
