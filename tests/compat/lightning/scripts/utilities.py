"""Small tools that scripts import."""

import json

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.fabric.utilities.data import has_len, sized_len
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities import find_shared_parameters, grad_norm, rank_zero_only
from lightning.pytorch.utilities.data import extract_batch_size
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.memory import recursive_detach
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.model_summary import ModelSummary, get_human_readable_count
from lightning.pytorch.utilities.parsing import (
    is_picklable,
    lightning_getattr,
    lightning_hasattr,
    lightning_setattr,
)


@rank_zero_only
def work(x):
    return x + 1


rank_zero_only.rank = 0
print(json.dumps(["rank zero", work(1)]))
rank_zero_only.rank = 1
print(json.dumps(["rank one", work(1)]))
rank_zero_only.rank = 0
model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
model(torch.ones(3, 2)).sum().backward()
print(json.dumps(["norms", sorted(grad_norm(model, 2)), sorted(grad_norm(model, "inf"))]))
model[1].weight = torch.nn.Parameter(torch.ones(1, 2))
model.add_module("again", model[1])
print(json.dumps(["shared", find_shared_parameters(model)]))
print(
    json.dumps(["size", extract_batch_size({"a": [torch.ones(4, 2)]}), extract_batch_size(torch.tensor(1.0))])
)
print(json.dumps(["detach", recursive_detach({"a": torch.ones(1, requires_grad=True)})["a"].requires_grad]))
print(
    json.dumps(
        [
            "overridden",
            is_overridden("training_step", BoringModel()),
            is_overridden("on_fit_start", BoringModel()),
        ]
    )
)
print(json.dumps(["picklable", is_picklable(1), is_picklable(lambda: 1)]))
moved = move_data_to_device({"a": [torch.ones(1), "x", 3], "b": (torch.zeros(2),)}, torch.device("cpu"))
print(json.dumps(["moved", sorted(moved), type(moved["b"]).__name__]))
print(
    json.dumps(["len", sized_len([1, 2]), sized_len(iter([])), has_len(torch.utils.data.DataLoader([1, 2]))])
)
boring = BoringModel()
boring.lr = 0.1
print(
    json.dumps(
        [
            "attributes",
            lightning_hasattr(boring, "lr"),
            lightning_getattr(boring, "lr"),
            lightning_hasattr(boring, "no"),
        ]
    )
)
lightning_setattr(boring, "lr", 0.5)
print(json.dumps(["set", boring.lr]))
summary = ModelSummary(boring, max_depth=-1)
print(
    json.dumps(
        [
            "summary",
            summary.total_parameters,
            summary.trainable_parameters,
            summary.layer_names,
            summary.param_nums,
        ]
    )
)
print(json.dumps(["counts", [get_human_readable_count(n).strip() for n in (7, 1234, 2000000, 3 * 10**9)]]))
try:
    raise MisconfigurationException("something")
except MisconfigurationException as error:
    print(json.dumps(["message", str(error)]))
