"""What setup gives back: modules and optimizers that are themselves, and more."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from blixt.fabric import (
    ConfigError,
    Fabric,
    FabricModule,
    FabricOptimizer,
    UsageError,
    WrongTypeError,
    is_wrapped,
)
from blixt.fabric.precision import Precision
from blixt.fabric.wrappers import FabricModule as Wrapped


def fabric(**options: Any) -> Fabric:
    made = Fabric(**{"accelerator": "cpu", "devices": 1, **options})
    made.launch()
    return made


class Net(nn.Module):
    purpose = "test"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + 1

    def describe(self) -> str:
        return f"{self.purpose} {self.layer.in_features}"

    def training_step(self, x: torch.Tensor) -> torch.Tensor:
        return self(x).sum()


def guarded(original: nn.Module) -> Wrapped:
    """A module behind a strategy's wrapper, as DDP would be."""

    class Shell(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *args: Any) -> Any:
            return self.module(*args)

    return Wrapped(original, Shell(original), Precision(), torch.device("cpu"), guarded=True)


def test_the_wrapped_module_keeps_names_keys_and_attributes() -> None:
    original = Net()
    model = fabric().setup(original)
    assert list(model.state_dict()) == list(original.state_dict())
    assert [name for name, _ in model.named_parameters()] == ["layer.weight", "layer.bias"]
    assert [name for name, _ in model.named_buffers()] == ["seen"]
    assert (model.purpose, model.describe(), model.module) == ("test", "test 2", original)
    assert (model.device.type, model.dtype) == ("cpu", torch.float32)
    assert "describe" in dir(model)


def test_setting_an_attribute_sets_it_on_the_module_that_was_set_up() -> None:
    original = Net()
    model = fabric().setup(original)
    model.purpose = "work"
    model.fresh = 3
    model.layer = nn.Linear(2, 5)
    assert (original.purpose, original.fresh, original.layer.out_features) == ("work", 3, 5)
    assert model(torch.ones(1, 2)).shape == (1, 5)
    model.eval()
    assert not original.training
    del model.fresh
    assert not hasattr(original, "fresh")
    with pytest.raises(AttributeError, match="nowhere"):
        _ = model.nowhere


def test_a_marked_method_runs_through_forward_and_forward_stays_its_own() -> None:
    original = Net()
    model = guarded(original)
    model.mark_forward_method("embed")
    assert torch.equal(model.embed(torch.ones(1, 2)), original.embed(torch.ones(1, 2)))
    assert "forward" not in vars(original)
    model.mark_forward_method(original.describe)
    assert model.describe() == "test 2"


def test_the_steps_of_a_trainers_module_are_marked_already() -> None:
    original = Net()
    assert torch.equal(guarded(original).training_step(torch.ones(1, 2)), original(torch.ones(1, 2)).sum())


def test_a_method_that_computes_around_the_wrapper_is_refused_before_it_does() -> None:
    model = guarded(Net())
    assert model.describe() == "test 2"
    with pytest.raises(UsageError, match=r"mark_forward_method\('embed'\)"):
        model.embed(torch.ones(1, 2))
    assert model(torch.ones(1, 2)).shape == (1, 2)  # no hook is left behind


@pytest.mark.parametrize(
    ("method", "kind", "sentence"),
    [
        ("forward", ConfigError, "forward needs no mark"),
        ("embedd", ConfigError, "Did you mean 'embed'"),
        ("purpose", ConfigError, "no such method"),
        (3, WrongTypeError, "it is no method"),
    ],
)
def test_what_cannot_be_marked_is_named(method: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        fabric().setup(Net()).mark_forward_method(method)


def test_setting_up_twice_is_refused() -> None:
    run = fabric()
    original = Net()
    model, optimizer = run.setup(original, torch.optim.SGD(original.parameters(), lr=0.1))
    with pytest.raises(ConfigError, match="set up already"):
        run.setup(model)
    with pytest.raises(ConfigError, match="set up already"):
        run.setup(Net(), optimizer)
    with pytest.raises(ConfigError, match="set up already"):
        run.setup_optimizers(optimizer)
    with pytest.raises(ConfigError, match="set up already"):
        run.setup_dataloaders(run.setup_dataloaders([1]))
    with pytest.raises(ConfigError, match="Give one or more"):
        run.setup_optimizers()


def test_is_wrapped_knows_modules_optimizers_loaders_and_compiled_ones() -> None:
    run = fabric()
    original = Net()
    plain = torch.optim.SGD(original.parameters(), lr=0.1)
    model, optimizer = run.setup(original, plain)
    loader = run.setup_dataloaders([1])
    assert all(is_wrapped(item) for item in (model, optimizer, loader, torch.compile(model, backend="eager")))
    assert not any(is_wrapped(item) for item in (original, plain, [1], None))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.LBFGS])
def test_a_wrapped_optimizer_is_an_instance_of_its_class_and_shares_its_state(kind: Any) -> None:
    original = Net()
    plain = kind(original.parameters(), lr=0.1)
    _, optimizer = fabric().setup(original, plain)
    assert isinstance(optimizer, kind)
    assert isinstance(optimizer, FabricOptimizer)
    assert (optimizer.optimizer, optimizer.param_groups, optimizer.state) == (
        plain,
        plain.param_groups,
        plain.state,
    )
    plain.param_groups[0]["lr"] = 0.5
    assert optimizer.param_groups[0]["lr"] == 0.5
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert optimizer.param_groups is plain.param_groups
    assert type(pickle.loads(pickle.dumps(optimizer))) is kind
    assert type(copy.deepcopy(optimizer)) is kind


@pytest.mark.parametrize("before", [True, False])
def test_schedulers_work_with_either_optimizer_and_come_back_from_setup(before: bool) -> None:
    original = Net()
    plain = torch.optim.SGD(original.parameters(), lr=1.0)
    run = fabric()
    if before:
        scheduler = torch.optim.lr_scheduler.StepLR(plain, 1, 0.5)
        model, optimizer, same = run.setup(original, plain, scheduler=scheduler)
        assert same is scheduler
    else:
        model, optimizer = run.setup(original, plain)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    optimizer.load_state_dict(optimizer.state_dict())
    rates = []
    for _ in range(3):
        run.backward(model(torch.ones(1, 2)).sum())
        optimizer.step()
        scheduler.step()  # would warn if it had not seen the step
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [0.5, 0.25, 0.125]


def test_an_optimizer_with_a_closure_gets_it() -> None:
    original = Net()
    run = fabric()
    model, optimizer = run.setup(original, torch.optim.LBFGS(original.parameters(), max_iter=4))
    calls = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(torch.ones(1, 2)) - 1).square().sum()
        run.backward(loss)
        calls.append(float(loss.detach()))
        return loss

    assert float(optimizer.step(closure).detach()) == calls[0] > calls[-1]


def test_callbacks_hear_of_setup_and_of_every_step() -> None:
    heard: list[str] = []

    class Listener:
        not_callable = 3

        def on_after_setup(self, fabric: Fabric, module: FabricModule) -> None:
            heard.append(f"setup {type(module).__name__}")

        def on_after_optimizer_step(self, strategy: Any, optimizer: Any) -> None:
            heard.append(type(optimizer).__name__)

        def on_epoch(self, loss: float) -> None:
            heard.append(f"epoch {loss}")

        def on_anything(self, *args: Any, **kwargs: Any) -> None:
            heard.append(f"{args} {kwargs}")

    class Deaf:
        pass

    run = fabric(callbacks=[Listener(), Deaf()])
    original = Net()
    _, optimizer = run.setup(original, torch.optim.SGD(original.parameters(), lr=0.1))
    optimizer.step()
    run.call("on_epoch", loss=0.5, more="is left out")
    run.call("on_anything", 1, two=2)
    run.call("on_nothing")
    with pytest.warns(UserWarning, match="is not callable"):
        run.call("not_callable")
    assert heard == ["setup FabricModule", "SGD", "epoch 0.5", "(1,) {'two': 2}"]


def test_a_compiled_module_is_compiled_again_around_what_setup_made_of_it() -> None:
    seen: list[str] = []

    def backend(graph: Any, inputs: Any) -> Any:
        seen.append("compiled")
        return graph.forward

    original = Net()
    model = fabric().setup(torch.compile(original, backend=backend, dynamic=False))
    assert model.module is original
    inner = model.get_submodule("_forward_module")
    assert type(inner).__name__ == "OptimizedModule"
    assert torch.equal(model(torch.ones(1, 2)), original(torch.ones(1, 2)))
    assert seen == ["compiled"]
    left = fabric().setup(torch.compile(Net(), backend="eager"), _reapply_compile=False)
    assert type(left.module).__name__ == "OptimizedModule"


def test_a_trainers_module_is_attached_and_takes_part_in_calls() -> None:
    class Module(Net):
        attached: Any = None

        def attach_fabric(self, fabric: Any, optimizers: list[Any]) -> None:
            self.attached = (fabric, optimizers)

    module = Module()
    run = fabric()
    _, optimizer = run.setup(module, torch.optim.SGD(module.parameters(), lr=0.1))
    assert module.attached == (run, [optimizer])
    assert run.callbacks == [module]


def test_a_module_with_an_optimizer_of_other_parameters_may_be_set_up() -> None:
    generator, critic = Net(), Net()
    both = torch.optim.SGD([*generator.parameters(), *critic.parameters()], lr=0.1)
    run = fabric()
    model, optimizer = run.setup(generator, both)
    other = run.setup(critic)
    run.backward(model(torch.ones(1, 2)).sum() + other(torch.ones(1, 2)).sum())
    optimizer.step()
    assert all(p.grad is not None for p in critic.parameters())
