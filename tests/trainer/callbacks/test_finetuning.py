"""Freezing and unfreezing parts of a model, and pruning it."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks as theirs
from tests.trainer import lightning_pair as pair
from tests.trainer.samples import Classifier, make_loader
from torch import nn
from torch.nn.utils import prune

from blixt.fabric import ConfigError
from blixt.trainer import (
    BackboneFinetuning,
    BaseFinetuning,
    Callback,
    ModelCheckpoint,
    ModelPruning,
    Module,
    Trainer,
)


def headed(base: type) -> Any:
    """A module with a backbone, on Lightning's base or ours."""

    class Headed(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh())
            self.head = nn.Linear(6, 2)
            self.groups: list[list[float]] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

        def configure_optimizers(self) -> Any:
            wanted = [p for p in self.parameters() if p.requires_grad]
            return torch.optim.SGD(wanted, lr=0.1, momentum=0.9)

        def on_train_epoch_end(self) -> None:
            self.groups.append([group["lr"] for group in self.trainer.optimizers[0].param_groups])

    torch.manual_seed(0)
    return Headed()


@pytest.mark.parametrize(
    "options",
    [
        {"unfreeze_backbone_at_epoch": 1},
        {"unfreeze_backbone_at_epoch": 1, "backbone_initial_lr": 0.03},
        {"unfreeze_backbone_at_epoch": 2, "lambda_func": lambda epoch: 1.5, "should_align": False},
    ],
)
def test_backbone_finetuning_is_bitwise_that_of_lightning(tmp_path: Path, options: Any) -> None:
    results: list[Any] = []
    for trainer_class, base, kind in (
        (pl.Trainer, pl.LightningModule, theirs.BackboneFinetuning),
        (Trainer, Module, BackboneFinetuning),
    ):
        module = headed(base)
        trainer_class(**pair.options(tmp_path, max_epochs=4, callbacks=[kind(**options)])).fit(
            module, pair.make_loader()
        )
        results.append((pair.weights(module), module.groups))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_batch_norms_stay_frozen_with_the_backbone_if_they_are_not_trained(trainer: Any) -> None:
    # Lightning trains them all the same: it hands train_bn on only when it unfreezes.
    module = headed(Module)
    before = [tensor.clone() for tensor in module.backbone[1].state_dict().values()]
    trainer(max_epochs=2, callbacks=[BackboneFinetuning(5, train_bn=False)]).fit(module, pair.make_loader())
    after = module.backbone[1].state_dict().values()
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_resumed_run_has_the_same_groups_and_ends_the_same(
    trainer: Any, tmp_path: Path, epoch: int
) -> None:
    def run(path: Path | None = None) -> Any:
        module = headed(Module)
        saver = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, enable_version_counter=False)
        callbacks = [BackboneFinetuning(1, lambda epoch: 1.5, train_bn=False), saver]
        trainer(enable_checkpointing=True, max_epochs=4, callbacks=callbacks).fit(
            module, pair.make_loader(), ckpt_path=path
        )
        return module

    whole = run()
    resumed = run(tmp_path / f"epoch={epoch}.ckpt")
    assert resumed.groups == whole.groups[epoch + 1 :]
    assert torch.equal(pair.weights(resumed), pair.weights(whole))
    assert torch.equal(resumed.backbone[1].running_mean, whole.backbone[1].running_mean)


def test_the_tools_freeze_unfreeze_and_tell_parameters_apart() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 2)))
    tools = BaseFinetuning
    assert [type(m).__name__ for m in tools.flatten_modules(module)] == ["Linear", "BatchNorm1d", "Linear"]
    assert len(tools.flatten_modules([module[0], [module[2]]])) == 2
    tools.freeze(module, train_bn=True)
    assert [p.requires_grad for p in module.parameters()] == [False, False, True, True, False, False]
    assert len(list(tools.filter_params(module, requires_grad=True))) == 2
    assert not list(tools.filter_params(module, train_bn=False, requires_grad=True))
    tools.freeze(module, train_bn=False)
    assert not module[1].track_running_stats
    optimizer = torch.optim.SGD(module[0].parameters(), lr=0.2)
    tools.unfreeze_and_add_param_group(module[1:], optimizer, initial_denom_lr=4.0)
    assert module[1].track_running_stats
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 4]
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.05)
    with pytest.warns(UserWarning, match="are in the optimizer already"):
        tools.unfreeze_and_add_param_group(module, optimizer)
    assert len(optimizer.param_groups) == 2


def test_a_module_without_a_backbone_is_refused(trainer: Any) -> None:
    with pytest.raises(ConfigError, match="Call what is frozen `backbone`"):
        trainer(max_epochs=1, callbacks=[BackboneFinetuning(1)]).fit(Classifier(), make_loader())


# --- pruning --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"pruning_fn": "l1_unstructured", "amount": 0.3},
        {"pruning_fn": "l1_unstructured", "amount": 5},
        # Only once: at the first reset Lightning lets the first values become the weights that are trained.
        {
            "pruning_fn": "l1_unstructured",
            "apply_pruning": lambda epoch: epoch == 0,
            "use_lottery_ticket_hypothesis": True,
        },
        {
            "pruning_fn": "l1_unstructured",
            "amount": 0.2,
            "use_global_unstructured": False,
            "parameter_names": ["weight"],
        },
        {
            "pruning_fn": "ln_structured",
            "amount": 0.4,
            "use_global_unstructured": False,
            "parameter_names": ["weight"],
            "pruning_dim": 0,
            "pruning_norm": 1,
        },
        {
            "pruning_fn": prune.L1Unstructured,
            "amount": lambda epoch: 0.1 * (epoch + 1),
            "apply_pruning": lambda epoch: epoch > 0,
        },
    ],
)
def test_pruning_is_bitwise_that_of_lightning(tmp_path: Path, options: Any) -> None:
    results: list[torch.Tensor] = []
    for trainer_class, base, kind in (
        (pl.Trainer, pl.LightningModule, theirs.ModelPruning),
        (Trainer, Module, ModelPruning),
    ):
        module = pair.model_of(base)
        callback = kind(**{"use_lottery_ticket_hypothesis": False, **options})
        trainer_class(**pair.options(tmp_path, callbacks=[callback])).fit(module, pair.make_loader())
        results.append(pair.weights(module))
    assert zeros_of(results[0]) > 0
    assert torch.equal(results[0], results[1])


def zeros_of(weights: torch.Tensor) -> int:
    return int((weights == 0).sum())


def test_the_lottery_gives_weights_that_stay_their_first_values_each_time(trainer: Any) -> None:
    module = pair.model_of(Module)
    first = {name: value.clone() for name, value in module.state_dict().items()}

    class Looks(Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            for name in ("net.0.weight", "net.2.weight") if trainer.current_epoch else ():
                layer = module.get_submodule(name.removesuffix(".weight"))
                assert torch.equal(layer.weight_orig, first[name])

    trainer(max_epochs=4, callbacks=[ModelPruning("l1_unstructured", amount=0.2), Looks()]).fit(
        module, pair.make_loader()
    )


def test_what_would_be_pruned_can_be_asked() -> None:
    module = pair.model_of(Module)
    first, second = module.net[0], module.net[2]
    found = ModelPruning.sanitize_parameters_to_prune
    assert found(module) == [(first, "weight"), (second, "weight"), (first, "bias"), (second, "bias")]
    assert found(module, parameter_names=["bias", "training"]) == [(first, "bias"), (second, "bias")]
    assert found(module, [(first, "weight")]) == [(first, "weight")]
    with pytest.raises(ConfigError, match="has no such parameter"):
        found(module, [(nn.Linear(1, 1), "weight")])


def test_checkpoints_hold_plain_names_and_a_resumed_run_goes_on_pruned(trainer: Any, tmp_path: Path) -> None:
    def run(path: Path | None = None) -> Any:
        module = pair.model_of(Module)
        saver = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, enable_version_counter=False)
        callbacks = [ModelPruning("l1_unstructured", amount=0.3), saver]
        trainer(enable_checkpointing=True, max_epochs=4, callbacks=callbacks).fit(
            module, pair.make_loader(), ckpt_path=path
        )
        return module

    whole = run()
    names = set(torch.load(tmp_path / "epoch=1.ckpt")["state_dict"])
    assert names == set(whole.state_dict())
    resumed = run(tmp_path / "epoch=1.ckpt")
    assert torch.equal(pair.weights(resumed), pair.weights(whole))


def test_masks_stay_when_pruning_is_not_permanent_and_it_can_wait_for_validation(trainer: Any) -> None:
    module = pair.model_of(Module)
    pruning = ModelPruning(
        "random_unstructured",
        amount=0.5,
        make_pruning_permanent=False,
        prune_on_train_epoch_end=False,
        verbose=2,
    )
    trainer(max_epochs=1, callbacks=[pruning]).fit(module, pair.make_loader(), pair.make_loader(4))
    assert hasattr(module.net[0], "weight_mask")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pruning_fn": "l1"}, "l1_unstructured"),
        ({"pruning_fn": 3}, "neither a name nor a class"),
        ({"pruning_fn": "ln_structured", "use_global_unstructured": False}, "Say of which dimension"),
        ({"pruning_fn": "ln_structured", "use_global_unstructured": False, "pruning_dim": 0}, "Say by which"),
        ({"pruning_fn": "random_structured", "pruning_dim": 0}, "Set it to False"),
        ({"pruning_fn": prune.L1Unstructured, "use_global_unstructured": False}, "Leave it True"),
        ({"pruning_fn": "l1_unstructured", "parameter_names": ["gain"]}, "Use 'weight' and 'bias'"),
        ({"pruning_fn": "l1_unstructured", "verbose": 3}, "Use 0, 1 or 2"),
    ],
)
def test_pruning_arguments_that_cannot_work_are_named_with_a_fix(options: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ModelPruning(**options)
