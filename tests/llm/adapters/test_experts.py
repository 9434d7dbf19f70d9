"""Adapters on experts, routers and the embedding beside others in one batch, against merged models."""

from pathlib import Path

import pytest
import torch

from blixt.llm.config import LayerSpec, ModelConfig
from blixt.llm.engine import Engine, EngineConfig
from blixt.llm.engine.adapters import AdapterSet
from blixt.llm.engine.adapters_rows import AdaptedRows
from blixt.llm.errors import AdapterError
from blixt.llm.lora import LoRAConfig, add_lora, load_peft, lora_state, merge, save_peft
from blixt.llm.model import GPT
from blixt.llm.quant import quantize
from blixt.llm.sampling import Sampling
from blixt.llm.specs import MoESpec

KINDS = {
    "experts": LoRAConfig(r=4, alpha=8, targets=("experts", "q")),
    "down and router": LoRAConfig(r=2, alpha=8, targets=("experts.down", "router")),
    "embedding": LoRAConfig(r=4, alpha=4, targets=("embed", "k")),
}
PROMPTS = [[5, 6, 7, 8], list(range(20, 45)), [3, 1, 4, 1, 5, 9, 2, 6], [9] * 12]


def base(*, d_ff: int = 48, tie: bool = True) -> GPT:
    torch.manual_seed(0)
    config = ModelConfig(
        model_type="qwen3_moe",
        vocab=97,
        d=32,
        layers=2,
        heads=4,
        kv_heads=2,
        context=64,
        tie=tie,
        moe=MoESpec(experts=4, top_k=2, d_ff=d_ff),
        layer_specs=(LayerSpec(mlp="moe"),) * 2,
    )
    model = GPT(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(8 if parameter.dim() > 1 else 1)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters with weights that matter, saved in PEFT's format."""
    found: dict[str, Path] = {}
    for seed, (name, config) in enumerate(KINDS.items()):
        model = add_lora(base(), config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in lora_state(model).values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) / 3)
        found[name] = tmp_path_factory.mktemp("adapter")
        save_peft(model, found[name])
    return found


def loaded(folders: dict[str, Path], model: GPT) -> AdapterSet:
    adapters = AdapterSet(model)
    for name, folder in folders.items():
        adapters.add(name, folder)
    return adapters


@pytest.mark.parametrize("scheme", ["", "nf4"])
@pytest.mark.parametrize("name", KINDS)
def test_each_row_is_computed_with_its_own_adapter(folders: dict[str, Path], name: str, scheme: str) -> None:
    def made() -> GPT:
        return quantize(base(), scheme) if scheme else base()

    adapters, tokens = loaded(folders, made()), torch.arange(11)
    wanted = load_peft(made(), folders[name]).eval()(tokens)
    with adapters.rows([adapters.index(name)] * 11):
        found = adapters.model(tokens)
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()))
    assert torch.equal(adapters.model(tokens), made()(tokens))


@pytest.mark.parametrize("invariant", [False, True])
def test_requests_of_one_batch_get_the_tokens_of_merged_models(
    folders: dict[str, Path], invariant: bool
) -> None:
    adapters = loaded(folders, base())
    settings = EngineConfig(max_batch=4, max_tokens_per_step=9, block_size=4, batch_invariant=invariant)
    engine = Engine(adapters.model, None, settings, adapters=adapters)
    names: list[str | None] = ["experts", None, "down and router", "embedding"]
    greedy = Sampling(temperature=0, max_tokens=8)
    for number, name in enumerate(names):
        engine.add(PROMPTS[number], greedy, uid=str(number), adapter=name)
    found: list[list[int]] = [[] for _ in names]
    while engine.has_work:
        for update in engine.step():
            assert not update.error, update.error
            found[int(update.uid)] += update.tokens
    for number, name in enumerate(names):
        model = base() if name is None else merge(load_peft(base(), folders[name]), unload=True)
        tokens = list(PROMPTS[number])
        for _ in range(8):
            tokens.append(int(model(torch.tensor(tokens))[-1].argmax()))
        assert found[number] == tokens[len(PROMPTS[number]) :], name


def test_dropped_adapters_leave_the_model_as_it_was(folders: dict[str, Path]) -> None:
    adapters = loaded(folders, base())
    for name in KINDS:
        adapters.remove(name)
    assert not any(isinstance(module, AdaptedRows) for module in adapters.model.modules())


def test_what_does_not_fit_or_cannot_differ_from_token_to_token_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="model of another size"):
        AdapterSet(base(d_ff=40)).add("experts", folders["experts"])
    save_peft(add_lora(base(tie=False), LoRAConfig(targets=("head",))), tmp_path)
    with pytest.raises(AdapterError, match="head, which is the embedding here: merge it"):
        AdapterSet(base()).add("head", tmp_path)
