"""The verbs of Fabric: launch in every form, files, collectives and turns; several checks a launch."""

from pathlib import Path
from typing import Any

import lightning.fabric
import pytest
import torch
from torch import nn

from blixt.fabric import CheckpointError, ConfigError, Fabric, LaunchError, UsageError, WrongTypeError
from blixt.fabric.collective import SingleDeviceCollective, TorchCollective
from blixt.fabric.strategies import DDPStrategy, SingleDeviceStrategy
from blixt.fabric.strategies.fsdp import FSDPStrategy


def made(**options: Any) -> Fabric:
    run = Fabric(**{"accelerator": "cpu", "devices": 1, **options})
    run.launch()
    return run


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


# --- launch ---------------------------------------------------------------------------------------


def test_a_function_gets_the_fabric_and_all_arguments() -> None:
    assert Fabric(accelerator="cpu").launch(lambda fabric, a, b: (fabric.world_size, a, b), 1, b=2) == (
        1,
        1,
        2,
    )


@pytest.mark.parametrize(
    ("function", "sentence"), [(3, "it cannot be called"), (lambda: None, "it takes no argument")]
)
def test_what_cannot_be_launched_is_refused(function: Any, sentence: str) -> None:
    with pytest.raises(WrongTypeError, match=sentence):
        Fabric(accelerator="cpu").launch(function)


def test_a_strategy_that_spawns_wants_a_function() -> None:
    with pytest.raises(WrongTypeError, match=r"Give one: launch\(train\)"):
        Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch()


def test_machines_that_are_started_by_hand_need_an_address() -> None:
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        Fabric(accelerator="cpu", devices=2, num_nodes=2).launch(print)


class Program(Fabric):
    def run(self, number: int, power: int = 1) -> float:
        return float(self.all_reduce(float((number + self.global_rank + self.offset) ** power), "sum"))


def test_a_subclass_with_run_launches_when_it_is_run() -> None:
    alone = Program(accelerator="cpu")
    alone.offset = 0
    assert alone.run(3, power=2) == 9.0


def test_a_subclass_is_rebuilt_with_its_attributes_in_processes_of_its_own() -> None:
    several = Program(accelerator="cpu", devices=2, strategy="ddp_fork")
    several.offset = 10
    assert several.run(1, power=2) == 11.0**2 + 12.0**2


def test_under_the_command_line_the_processes_meet_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[int] = []

    class Noting(SingleDeviceStrategy):
        def connect(self, world: Any, backend: str) -> None:
            met.append(world.rank)
            super().connect(world, backend)

    Fabric(accelerator="cpu", strategy=Noting())
    assert met == []
    monkeypatch.setenv("LT_CLI_USED", "1")
    Fabric(accelerator="cpu", strategy=Noting()).launch()
    assert met == [0]


# --- files ----------------------------------------------------------------------------------------


def test_numbers_that_one_process_reduces_come_back_as_tensors_as_those_of_several_do() -> None:
    kept = torch.ones(2)
    found: Any = Fabric(accelerator="cpu", devices=1).all_reduce(
        {"loss": 2.5, "n": 3, "own": kept, "name": "x"}
    )
    assert (float(found["loss"]), int(found["n"])) == (2.5, 3)
    assert all(isinstance(found[name], torch.Tensor) for name in ("loss", "n"))
    assert found["own"] is kept
    assert found["name"] == "x"


def test_a_filter_says_what_of_a_state_is_kept(tmp_path: Path) -> None:
    run, model = made(), network()
    run.save(
        tmp_path / "x.pt", {"model": model, "n": 1}, filter={"model": lambda name, _: "bias" not in name}
    )
    assert list(run.load(tmp_path / "x.pt")["model"]) == ["0.weight", "1.weight"]
    with pytest.raises(ConfigError, match="Did you mean 'model'"):
        run.save(tmp_path / "x.pt", {"model": model}, filter={"modell": lambda *_: True})
    with pytest.raises(WrongTypeError, match="it is no function"):
        run.save(tmp_path / "x.pt", {"model": model}, filter={"model": True})  # type: ignore[dict-item]
    with pytest.raises(WrongTypeError, match="it is not by name"):
        run.save(tmp_path / "x.pt", {"model": model}, filter=lambda *_: True)  # type: ignore[arg-type]


def test_files_go_to_and_come_from_lightnings_fabric(tmp_path: Path) -> None:
    def trained(run: Any) -> tuple[Any, Any]:
        model = network()
        model, optimizer = run.setup(model, torch.optim.Adam(model.parameters(), lr=0.1))
        run.backward(model(torch.ones(4, 2)).square().sum())
        optimizer.step()
        return model, optimizer

    theirs = lightning.fabric.Fabric(accelerator="cpu", devices=1)
    theirs.launch()
    ours = made()
    for writer, reader in ((theirs, ours), (ours, theirs)):
        model, optimizer = trained(writer)
        writer.save(tmp_path / "x.ckpt", {"model": model, "optimizer": optimizer, "step": 3})
        fresh = network()
        fresh, other = reader.setup(fresh, torch.optim.Adam(fresh.parameters(), lr=0.7))
        state: dict[str, Any] = {"model": fresh, "optimizer": other, "step": 0}
        assert reader.load(tmp_path / "x.ckpt", state) == {}
        assert state["step"] == 3
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True))
        assert other.param_groups[0]["lr"] == 0.1
        assert torch.equal(
            next(iter(other.state.values()))["exp_avg"], next(iter(optimizer.state.values()))["exp_avg"]
        )


def test_raw_weights_load_into_wrapped_and_plain_objects(tmp_path: Path) -> None:
    run, source, target = made(), network(), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    run.load_raw(tmp_path / "weights.pt", run.setup(target))
    assert torch.equal(target[0].weight, source[0].weight)
    optimizer = torch.optim.SGD(source.parameters(), lr=0.5)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    other = run.setup_optimizers(torch.optim.SGD(target.parameters(), lr=0.1))
    run.load_raw(tmp_path / "optimizer.pt", other)
    assert other.param_groups[0]["lr"] == 0.5
    run.load_raw(tmp_path / "weights.pt", nn.Sequential(nn.Linear(2, 3)), strict=False)
    with pytest.raises((RuntimeError, CheckpointError)):
        run.load_raw(tmp_path / "weights.pt", nn.Sequential(nn.Linear(2, 3)))
    with pytest.raises(WrongTypeError, match="it takes no state"):
        run.load_raw(tmp_path / "weights.pt", 3)  # type: ignore[arg-type]


# --- a step ---------------------------------------------------------------------------------------


def test_a_context_without_sync_wants_what_setup_gave() -> None:
    run, model = made(), network()
    with pytest.raises(WrongTypeError, match=r"what fabric\.setup gave back"):
        run.no_backward_sync(model)
    with run.no_backward_sync(run.setup(model), enabled=False):
        pass


def test_backward_takes_what_torchs_takes() -> None:
    run = made()
    model = run.setup(network())
    output = model(torch.ones(2, 2))
    run.backward(output, torch.ones(2, 1), retain_graph=True, model=model)
    run.backward(output, gradient=torch.ones(2, 1))
    assert model.module[0].weight.grad is not None


def test_modules_are_made_where_and_as_they_will_be_kept() -> None:
    with made(precision="bf16-true").init_module():
        assert nn.Linear(1, 1).weight.dtype == torch.bfloat16
    with made().init_module(empty_init=True):
        large = nn.Linear(4, 4)
    assert large.weight.shape == (4, 4)


# --- between processes ----------------------------------------------------------------------------


def between(fabric: Fabric, folder: str) -> dict[str, Any]:
    rank = fabric.global_rank
    found: dict[str, Any] = {}
    data = {"a": torch.tensor([float(rank + 1)]), "b": [rank, (True,)], "s": "text"}
    for op in ("sum", "mean", "min", "max", "product"):
        found[op] = fabric.all_reduce(data, op)["a"].item()  # type: ignore[arg-type]
    found["kept"] = (data["a"].item(), fabric.all_reduce(data)["s"])
    found["gathered"] = fabric.all_gather(data)["b"][0].tolist()
    leaf = torch.ones(2, requires_grad=True)
    fabric.all_gather(leaf * (rank + 1), sync_grads=True)[0].sum().backward()
    found["gradient"] = leaf.grad.tolist() if leaf.grad is not None else None
    group = TorchCollective().create_group(ranks=[0])
    found["alone"] = float(fabric.all_reduce(3.0, "sum", group.group)) if rank == 0 else 3.0
    with pytest.raises(ConfigError, match="Did you mean 'mean'"):
        fabric.all_reduce(1.0, "meen")  # type: ignore[arg-type]
    path = Path(folder) / "first"
    for local in (False, True):
        with fabric.rank_zero_first(local=local):
            found[f"first {local}"] = (rank == 0) != path.exists()
            path.touch()
        fabric.barrier("both are through")
        path.unlink(missing_ok=True)
        fabric.barrier()
    try:
        with fabric.rank_zero_first():
            raise ValueError("the disk is full")
    except (ValueError, LaunchError) as error:
        found["failure"] = type(error).__name__
    group.teardown()
    found["collective"] = collective_of_all(rank)
    found["model"] = trained_together(fabric, folder)
    return {name: fabric.all_gather_both(value) for name, value in found.items()}  # type: ignore[attr-defined]


def collective_of_all(rank: int) -> list[Any]:
    ours = TorchCollective()
    parts = [torch.zeros(1), torch.zeros(1)]
    mine = torch.tensor([float(rank + 1)])
    result: list[Any] = [ours.rank == rank, ours.world_size]
    result.append(ours.all_reduce(mine.clone()).item())
    result.append([part.item() for part in ours.all_gather(parts, mine)])
    result.append(ours.broadcast(mine.clone(), 1).item())
    result.append(ours.all_gather_object([None, None], rank))
    result.append(ours.broadcast_object_list([rank], 1))
    result.append(
        ours.scatter(torch.zeros(1), [mine, mine * 5] if rank == 0 else None, 0).item() // (rank * 4 + 1)
    )
    if rank == 0:
        ours.send(mine, 1)
        result.append(1.0)
    else:
        result.append(ours.recv(torch.zeros(1), 0).item())
    with pytest.raises(ConfigError, match="there is no such operation"):
        ours.all_reduce(mine, "summ")
    ours.barrier()
    return result


def trained_together(fabric: Fabric, folder: str) -> list[float]:
    model = network()
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    x = torch.full((2, 2), float(fabric.global_rank + 1))
    with fabric.no_backward_sync(model):
        fabric.backward(model(x).mean())
    fabric.backward(model(x).mean(), model=model)
    norm = fabric.clip_gradients(model, optimizer, max_norm=0.5)
    optimizer.step()
    path = Path(folder) / "both.pt"
    fabric.save(path, {"model": model, "optimizer": optimizer})
    with torch.no_grad():
        model.module[0].weight.zero_()
    fabric.load(path, {"model": model, "optimizer": optimizer})
    assert norm is not None
    return [round(float(norm), 4), round(float(model.module[0].weight.sum()), 4)]


class Both(Fabric):
    def all_gather_both(self, value: Any) -> list[Any]:
        from blixt.fabric import all_gather_objects

        return all_gather_objects(value)


def test_two_processes_exchange_take_turns_train_and_save(tmp_path: Path) -> None:
    found = Both(accelerator="cpu", devices=2, strategy="ddp_fork").launch(between, str(tmp_path))
    assert found is not None
    same = {name: both[0] for name, both in found.items() if both[0] == both[1]}
    assert (same["sum"], same["mean"], same["min"], same["max"], same["product"]) == (3.0, 1.5, 1.0, 2.0, 2.0)
    assert found["kept"] == [(1.0, "text"), (2.0, "text")]
    assert same["gathered"] == [0, 1]
    assert found["gradient"] == [[2.0, 2.0], [0.0, 0.0]]
    assert same["alone"] == 3.0
    assert (same["first False"], same["first True"]) == (True, True)
    assert found["failure"] == ["ValueError", "LaunchError"]
    assert same["collective"] == [True, 2, 3.0, [1.0, 2.0], 2.0, [0, 1], [1], 1.0, 1.0]
    assert same["model"][0] > 0.5


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(x).relu())

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def shared(fabric: Fabric, folder: str) -> list[Any]:
    torch.manual_seed(0)
    net = Net()
    model, optimizer = fabric.setup(net, torch.optim.AdamW(net.parameters(), lr=0.1))
    x = torch.ones(2, 8) * (fabric.global_rank + 1)

    def step() -> float:
        loss = model(x).square().mean()
        optimizer.zero_grad()
        fabric.backward(loss)
        norm = fabric.clip_gradients(model, optimizer, max_norm=0.5)
        optimizer.step()
        return float(norm)  # type: ignore[arg-type]

    norms = [step(), step()]
    with pytest.raises(UsageError, match=r"mark_forward_method\('embed'\)"):
        model.embed(x)
    model.mark_forward_method("embed")
    embedded = model.embed(x).shape == (2, 8)
    state: dict[str, Any] = {"model": model, "optimizer": optimizer, "step": 2}
    fabric.save(Path(folder) / "shared.pt", state)
    after = [step(), state.update(step=0)][0]
    fabric.load(Path(folder) / "shared.pt", state)
    return [*norms, embedded, state["step"], step() == after]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_shards_and_replicas_train_alike_and_resume_to_the_bit(precision: str, tmp_path: Path) -> None:
    found = [
        Fabric(accelerator="cpu", devices=2, strategy=strategy, precision=precision).launch(
            shared, str(tmp_path)
        )
        for strategy in (DDPStrategy(launcher="fork"), FSDPStrategy(launcher="fork"))
    ]
    replicas, shards = found
    assert replicas is not None
    assert shards == pytest.approx(replicas, rel=1e-5)
    assert replicas[2:] == [True, 2, True]


def test_the_collective_of_one_process_gives_everything_back() -> None:
    alone, one = SingleDeviceCollective(), torch.ones(1)
    assert (alone.rank, alone.world_size) == (0, 1)
    with pytest.raises(Exception, match="has no group yet"):
        _ = alone.group
    assert alone.create_group().group is not None
    with pytest.raises(Exception, match="has a group already"):
        alone.create_group()
    assert all(
        t is one for t in (alone.all_reduce(one), alone.broadcast(one), alone.reduce(one), alone.recv(one))
    )
    assert alone.all_gather([], one) == alone.gather(one) == alone.all_to_all([], [one]) == [one]
    assert alone.scatter(one, [one]) is alone.reduce_scatter(one, [one]) is one
    alone.send(one)
    alone.barrier()
    assert alone.setup().teardown() is alone
