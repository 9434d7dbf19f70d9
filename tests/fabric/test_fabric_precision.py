"""Precision policies: what is kept, computed and given back, with Lightning as the measure."""

from typing import Any

import lightning.fabric
import lightning.fabric.plugins
import pytest
import torch
from torch import nn

from blixt.fabric import (
    BitsandbytesPrecision,
    ComposedPrecision,
    ConfigError,
    DoublePrecision,
    Fabric,
    Float8Precision,
    HalfPrecision,
    MissingPackageError,
    MixedPrecision,
    Precision,
    UsageError,
    WrongTypeError,
)
from blixt.fabric.precision import resolve_precision

NAMES = ["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true"]
CPU = torch.device("cpu")


def made(**options: Any) -> Fabric:
    run = Fabric(**{"accelerator": "cpu", "devices": 1, **options})
    run.launch()
    return run


class Probe(nn.Module):
    """Notes in what type its input, its layer's output and a fresh tensor are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)
        self.seen: list[torch.dtype] = []

    def forward(self, x: torch.Tensor) -> Any:
        y = self.layer(x)
        self.seen += [x.dtype, y.dtype, torch.ones(1).dtype]
        return {"y": y, "count": torch.tensor(3), "text": "kept"}


def what_it_does(run: Any) -> list[Any]:
    torch.manual_seed(0)
    probe = Probe()
    model = run.setup_module(probe)
    x = torch.linspace(-1, 1, 32).reshape(2, 16)
    output = model(x)
    loss = output["y"].square().mean()
    run.backward(loss)
    with run.init_module():
        fresh = nn.Linear(1, 1).weight.dtype
    with run.init_tensor():
        tensor = torch.ones(1).dtype
    gradient = probe.layer.weight.grad
    assert gradient is not None
    scale = 2.0**16 if run_scales(run) else 1.0
    return [
        probe.seen,
        probe.layer.weight.dtype,
        output["y"].dtype,
        output["count"].dtype,
        gradient.dtype,
        fresh,
        tensor,
        (gradient.double() / scale).tolist(),
        loss.item(),
        torch.get_default_dtype(),
    ]


def run_scales(run: Any) -> bool:
    return any(getattr(owner, "scaler", None) is not None for owner in (run, run.strategy.precision))


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_does_to_the_bit_what_lightnings_of_the_same_name_does(name: str) -> None:
    options: dict[str, Any] = {"precision": name}
    if name == "16-mixed":  # its name alone falls back to bfloat16 on a CPU
        options = {"plugins": lightning.fabric.plugins.MixedPrecision("16-mixed", "cpu")}
    theirs = lightning.fabric.Fabric(accelerator="cpu", devices=1, **options)
    theirs.launch()
    ours, theirs_did = what_it_does(made(precision=name)), what_it_does(theirs)
    if name.endswith("mixed"):  # Lightning rounds the input itself, before autocast knows whether it is safe
        assert ours[0].pop(0) == torch.float32
        theirs_did[0].pop(0)
    assert ours == theirs_did


@pytest.mark.parametrize(
    ("alias", "name"),
    [(64, "64-true"), ("64", "64-true"), (32, "32-true"), ("bf16", "bf16-mixed"), (16, "16-mixed")],
)
def test_aliases_mean_what_they_mean_elsewhere(alias: Any, name: str) -> None:
    assert resolve_precision(alias).name == name


@pytest.mark.parametrize(
    ("given", "kind", "sentence"),
    [
        ("bf17-mixed", ConfigError, "Did you mean 'bf16-mixed'"),
        (True, WrongTypeError, "it is no precision"),
        (3.5, WrongTypeError, "it is no precision"),
        ("bf16-true+64-true", ConfigError, "bf16-true keeps parameters in torch.bfloat16 and 64-true"),
        ("bf16-mixed+bf15", ConfigError, "there is no such precision"),
    ],
)
def test_a_precision_that_cannot_be_is_refused(given: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        Fabric(accelerator="cpu", precision=given)


def test_policies_can_be_given_as_objects_and_as_plugins() -> None:
    assert made(precision=HalfPrecision("bf16-true")).precision.name == "bf16-true"
    assert made(plugins=DoublePrecision()).precision.name == "64-true"
    assert made(plugins=[Float8Precision()], precision="bf16-true").precision.name == "bf16-true+float8"
    with pytest.raises(ConfigError, match="it is no half"):
        HalfPrecision("32-true")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="it mixes nothing"):
        MixedPrecision("32-true")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="do not underflow"):
        MixedPrecision("bf16-mixed", scaler=torch.amp.GradScaler("cpu"))


def test_a_scaler_of_ones_own_is_used() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    run = made(plugins=MixedPrecision("16-mixed", "cpu", scaler))
    assert run.scaler is scaler


def test_16_mixed_scales_skips_overflows_unscales_before_clipping_and_refuses_lbfgs() -> None:
    run = made(precision="16-mixed")
    model = nn.Linear(4, 1)
    model, optimizer = run.setup(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    assert run.scaler is not None
    scale, before = run.scaler.get_scale(), model.weight.detach().clone()
    run.backward(model(torch.ones(2, 4)).sum() * float("inf"))
    optimizer.step()
    assert torch.equal(model.weight, before)
    assert run.scaler.get_scale() < scale
    optimizer.zero_grad()
    run.backward(model(torch.ones(2, 4)).mean())
    run.clip_gradients(model, optimizer, max_norm=0.5)
    assert float(model.weight.grad.norm()) <= 0.5
    optimizer.step()
    assert not torch.equal(model.weight, before)
    with pytest.raises(ConfigError, match="a gradient scaler cannot follow"):
        run.setup_optimizers(torch.optim.LBFGS([nn.Parameter(torch.ones(1))]))


def test_a_bare_backward_is_refused_where_the_loss_has_to_be_scaled() -> None:
    model = made(precision="16-mixed").setup(nn.Linear(2, 1))
    with pytest.raises(UsageError, match=r"fabric\.backward\(loss\)"):
        model(torch.ones(1, 2)).sum().backward()
    plain = made(precision="bf16-mixed").setup(nn.Linear(2, 1))
    plain(torch.ones(1, 2)).sum().backward()
    assert plain.weight.grad is not None


def test_autocast_computes_outside_of_forward_as_inside() -> None:
    with made(precision="bf16-mixed").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with made(precision="64-true").autocast():
        assert torch.ones(1).dtype == torch.float64


def test_composed_policies_take_each_type_from_the_part_that_says_it() -> None:
    policy = resolve_precision("float8")
    assert isinstance(policy, ComposedPrecision)
    assert (policy.name, policy.param_dtype, policy.reduce_dtype) == (
        "bf16-mixed+float8",
        torch.bfloat16,
        torch.float32,
    )
    assert policy.input_dtype == torch.float32
    entered: list[str] = []

    class Noting(Precision):
        def __init__(self, name: str) -> None:
            self.name = name

        def wrap(self, fn: Any, device: torch.device) -> Any:
            def inside(*args: Any) -> Any:
                entered.append(self.name)
                return fn(*args)

            return inside

    both = ComposedPrecision([Noting("outer"), Noting("inner")])
    assert both.wrap(lambda x: x + 1, CPU)(1) == 2
    assert entered == ["outer", "inner"]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(32, 32)
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.body(x)))


@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise", "rowwise_with_gw_hp"])
def test_float8_replaces_layers_that_fit_keeps_their_parameters_and_trains(recipe: Any) -> None:
    run = made(plugins=Float8Precision(recipe, emulate=True))
    torch.manual_seed(0)
    original = Block()
    x, weight = torch.randn(16, 32), original.body.weight
    exact = original(x).detach()
    model, optimizer = run.setup(original, torch.optim.SGD(original.parameters(), lr=0.1))
    assert type(original.body).__name__ == "Float8Linear"
    assert type(original.head) is nn.Linear  # 3 outputs are no multiple of 16
    assert original.body.weight is weight
    assert 0 < float((model(x) - exact).abs().max()) < 0.2
    before = weight.detach().clone()
    run.backward(model(x).square().mean())
    optimizer.step()
    assert not torch.equal(weight, before)


def test_float8_that_would_do_nothing_says_so() -> None:
    with pytest.raises(UsageError, match="multiples of 16"):
        made(precision="float8").setup(nn.Linear(3, 3))
    with pytest.raises(UsageError, match="check ignore_modules"):
        made(plugins=Float8Precision(ignore_modules=["body"])).setup(Block())
    with pytest.raises(ConfigError, match="no such recipe"):
        Float8Precision("columnwise")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["nf4", "nf4-dq", "fp4", "fp4-dq", "int8", "int8-training"])
def test_bitsandbytes_quantises_linear_layers_and_stays_close(mode: Any) -> None:
    run = made(precision=mode)
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    x = torch.randn(4, 64)
    exact, state = original(x).detach(), {k: v.clone() for k, v in original.state_dict().items()}
    model = run.setup(original)
    kept = original[0].weight
    assert kept.dtype == {"int8": torch.int8, "int8-training": torch.float32}.get(mode, torch.uint8)
    assert kept.requires_grad == (mode == "int8-training")
    output = model(x)
    assert output.dtype == torch.float32
    error = float((output - exact).abs().max())
    assert 0 < error < 0.5
    original.load_state_dict(state)  # of full precision: quantised as it arrives
    assert float((model(x) - exact).abs().max()) == pytest.approx(error, rel=0.1)
    twin = run.setup(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)))
    twin.load_state_dict(model.state_dict())
    assert torch.allclose(twin(x), model(x), atol=1e-2)


def test_bitsandbytes_leaves_out_what_it_is_told_to_and_refuses_what_cannot_be() -> None:
    policy = BitsandbytesPrecision("nf4", ignore_modules={"head"})
    model = Block()
    policy.convert_module(model)
    assert (type(model.body).__name__, type(model.head)) == ("Linear4bit", nn.Linear)
    assert policy.convert_module(model) is model
    with pytest.raises(UsageError, match="no linear layer"):
        BitsandbytesPrecision("nf4").convert_module(nn.ReLU())
    with pytest.raises(ConfigError, match="Did you mean 'nf4'"):
        BitsandbytesPrecision("nf5")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="compute in float16"):
        BitsandbytesPrecision("int8", dtype=torch.bfloat16)


def test_what_is_not_installed_is_named_with_the_package_to_install() -> None:
    try:
        import transformer_engine  # noqa: F401 # type: ignore[import-not-found]
    except ImportError:
        with pytest.raises(MissingPackageError, match=r"pip install 'transformer-engine\[pytorch\]'"):
            Fabric(accelerator="cpu", precision="transformer-engine")
