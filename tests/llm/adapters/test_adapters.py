"""Several adapters in one batch against models into which each was merged."""

from pathlib import Path

import pytest
import torch

from blixt.llm.config import ModelConfig
from blixt.llm.engine import Engine, EngineConfig
from blixt.llm.engine.adapters import AdaptedLinear, AdapterSet
from blixt.llm.errors import AdapterError, PromptError
from blixt.llm.lora import LoRAConfig, add_lora, load_peft, merge, save_peft
from blixt.llm.model import GPT
from blixt.llm.quant import quantize
from blixt.llm.sampling import Sampling

KINDS = {
    "plain": LoRAConfig(r=4, alpha=16, targets=("q", "v")),
    "rslora": LoRAConfig(r=2, alpha=4, targets=("gate", "up", "down", "k"), rslora=True),
    "dora": LoRAConfig(r=3, alpha=9, targets=("q", "out", "up"), dora=True),
    "head": LoRAConfig(r=4, alpha=8, targets=("v", "head")),
    "biased": LoRAConfig(r=2, alpha=8, targets=("q", "k"), bias="lora_only"),
}
PROMPTS = [[5, 6, 7, 8], list(range(20, 45)), [3, 1, 4, 1, 5, 9, 2, 6], [9] * 12, [40, 41]]


def base() -> GPT:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab=97,
        d=32,
        layers=2,
        heads=4,
        kv_heads=2,
        d_ff=64,
        context=64,
        tie=False,
        qkv_bias=True,
        out_bias=True,
    )
    model = GPT(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(parameter * 4 if parameter.dim() > 1 else torch.randn_like(parameter) / 4 + 1)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters with weights that matter, saved in PEFT's format."""
    found: dict[str, Path] = {}
    for seed, (name, config) in enumerate(KINDS.items()):
        model = add_lora(base(), config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape, generator=generator) / 3)
        found[name] = tmp_path_factory.mktemp(name)
        save_peft(model, found[name])
    return found


def merged(folder: Path) -> GPT:
    return merge(load_peft(base(), folder), unload=True).eval().requires_grad_(False)


def loaded(folders: dict[str, Path], model: GPT | None = None) -> AdapterSet:
    adapters = AdapterSet(model or base())
    for name, folder in folders.items():
        adapters.add(name, folder)
    return adapters


def generate(engine: Engine, adapters: list[str | None], **sampling: object) -> list[list[int]]:
    for number, adapter in enumerate(adapters):
        settings = Sampling(**({"temperature": 0, "max_tokens": 10} | sampling))
        engine.add(PROMPTS[number % len(PROMPTS)], settings, uid=str(number), adapter=adapter)
    found: list[list[int]] = [[] for _ in adapters]
    while engine.has_work:
        for update in engine.step():
            assert not update.error, update.error
            found[int(update.uid)] += update.tokens
    return found


@pytest.mark.parametrize("name", KINDS)
def test_each_row_is_computed_with_its_own_adapter(folders: dict[str, Path], name: str) -> None:
    adapters = loaded(folders)
    tokens = torch.arange(11)
    plain, wanted = base()(tokens), merged(folders[name])(tokens)
    index = adapters.index(name)
    with adapters.rows([index] * 11):
        assert torch.allclose(adapters.model(tokens), wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(adapters.model(tokens), plain)
    linear = adapters.model.get_submodule("blocks.0.attn.q")
    x = torch.randn(6, 32)
    with adapters.rows([0, index, 0, index, index, 0]):
        mixed = linear(x)
    with adapters.rows([index] * 6):
        whole = linear(x)
    assert torch.allclose(mixed[[1, 3, 4]], whole[[1, 3, 4]], atol=1e-5)
    assert torch.equal(mixed[[0, 2, 5]], linear(x)[[0, 2, 5]])


def test_requests_with_different_adapters_share_a_batch_and_get_merged_models_tokens(
    folders: dict[str, Path],
) -> None:
    adapters = loaded(folders)
    names: list[str | None] = ["dora", None, "plain", "rslora", "biased"]
    engine = Engine(
        adapters.model,
        None,
        EngineConfig(max_batch=4, max_tokens_per_step=9, block_size=4),
        adapters=adapters,
    )
    found = generate(engine, names)
    assert engine.stats().blocks_used == 0
    for number, name in enumerate(names):
        alone = Engine(base() if name is None else merged(folders[name]))
        alone.add(PROMPTS[number], Sampling(temperature=0, max_tokens=10), uid="0")
        tokens: list[int] = []
        while alone.has_work:
            for update in alone.step():
                tokens += update.tokens
        assert found[number] == tokens, name


def test_cached_prefixes_are_not_shared_between_adapters(folders: dict[str, Path]) -> None:
    adapters = loaded(folders)
    engine = Engine(adapters.model, None, EngineConfig(block_size=4), adapters=adapters)
    wanted = {name: generate(engine, [None, name])[1] for name in ("plain", "dora")}
    again = generate(engine, [None, "plain"])[1]
    assert again == wanted["plain"]
    assert wanted["plain"] != wanted["dora"]


def test_an_adapter_is_loaded_and_dropped_while_the_engine_runs(folders: dict[str, Path]) -> None:
    adapters = AdapterSet(base())
    engine = Engine(adapters.model, None, EngineConfig(block_size=4), adapters=adapters)
    before = generate(engine, [None])
    engine.add(PROMPTS[1], Sampling(temperature=0, max_tokens=20), uid="running")
    engine.step()
    adapters.add("late", folders["plain"])
    assert adapters.names == ("late",)
    engine.add(PROMPTS[0], Sampling(temperature=0, max_tokens=5), uid="late", adapter="late")
    while engine.has_work:
        engine.step()
    adapters.remove("late")
    assert not any(isinstance(module, AdaptedLinear) for module in adapters.model.modules())
    assert generate(engine, [None]) == before
    with pytest.raises(PromptError, match="late"):
        engine.add([1, 2], adapter="late")


def test_a_request_whose_adapter_was_dropped_ends_alone(folders: dict[str, Path]) -> None:
    adapters = loaded(folders)
    engine = Engine(adapters.model, None, EngineConfig(block_size=4), adapters=adapters)
    engine.add(PROMPTS[0], Sampling(max_tokens=8), uid="lost", adapter="plain")
    engine.add(PROMPTS[1], Sampling(max_tokens=8, ignore_eos=True), uid="kept", adapter="dora")
    engine.step()
    adapters.remove("plain")
    reasons: dict[str, str | None] = {}
    while engine.has_work:
        reasons |= {update.uid: update.finish_reason for update in engine.step()}
    assert reasons == {"lost": "error", "kept": "length"}
    assert engine.stats().blocks_used == 0


def test_a_name_loaded_anew_does_not_find_the_old_ones_cache(folders: dict[str, Path]) -> None:
    adapters = AdapterSet(base())
    adapters.add("a", folders["plain"])
    first = adapters.salt("a")
    adapters.remove("a")
    adapters.add("a", folders["rslora"])
    assert adapters.salt("a") != first


@pytest.mark.parametrize("scheme", ["int8", "nf4"])
def test_adapters_sit_on_quantised_layers(folders: dict[str, Path], scheme: str) -> None:
    adapters = loaded(folders, quantize(base(), scheme))
    tokens = torch.arange(11)
    for name in ("plain", "dora"):
        wanted = load_peft(quantize(base(), scheme), folders[name]).eval()(tokens)
        with adapters.rows([adapters.index(name)] * 11):
            assert torch.allclose(adapters.model(tokens), wanted, rtol=1e-3, atol=1e-3)


def test_a_bfloat16_model_stays_in_bfloat16(folders: dict[str, Path]) -> None:
    adapters = loaded(folders, base().bfloat16())
    with adapters.rows([adapters.index("dora")] * 3):
        assert adapters.model(torch.arange(3)).dtype == torch.bfloat16


def test_what_cannot_be_served_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    adapters = loaded(folders)
    with pytest.raises(AdapterError, match="called 'plain' already"):
        adapters.add("plain", folders["plain"])
    with pytest.raises(AdapterError, match="no adapter is called 'x'; loaded: plain"):
        adapters.remove("x")
    save_peft(add_lora(base(), LoRAConfig(targets=("q",), save=("norm",))), tmp_path / "norm")
    with pytest.raises(AdapterError, match=r"changes norm\.weight"):
        adapters.add("norm", tmp_path / "norm")
    other = GPT(ModelConfig(vocab=97, d=16, layers=2, heads=4, kv_heads=2, context=64))
    with pytest.raises(AdapterError, match="model of another size"):
        AdapterSet(other).add("plain", folders["plain"])
