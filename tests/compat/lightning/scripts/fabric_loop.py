"""A raw loop on Fabric: losses, checkpoint, accumulation, clipping."""

import json

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

fabric = L.Fabric(accelerator="cpu", devices=1)
fabric.launch()
fabric.seed_everything(11)
x = torch.randn(24, 5)
loader = fabric.setup_dataloaders(DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4))
model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=0.05))
losses, norms = [], []
for _ in range(2):
    for i, (x, y) in enumerate(loader):
        accumulating = i % 2 == 0
        with fabric.no_backward_sync(model, enabled=accumulating):
            loss = torch.nn.functional.mse_loss(model(x), y)
            fabric.backward(loss)
        if not accumulating:
            norms.append(float(fabric.clip_gradients(model, optimizer, max_norm=0.5)))
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
print(json.dumps(["losses", losses]))
print(json.dumps(["norms", norms]))
print(json.dumps(["len", len(loader), fabric.world_size, fabric.global_rank, fabric.is_global_zero]))
fabric.save("state.ckpt", {"model": model, "optimizer": optimizer, "epoch": 2})
state = {"model": model, "optimizer": optimizer, "epoch": 0}
rest = fabric.load("state.ckpt", state)
print(json.dumps(["state", state["epoch"], sorted(rest)]))
content = torch.load("state.ckpt", weights_only=False)
print(json.dumps(["file", sorted(content), sorted(content["model"]), sorted(content["optimizer"])]))
fabric.save("part.ckpt", {"model": model}, filter={"model": lambda name, value: "weight" in name})
print(json.dumps(["part", sorted(torch.load("part.ckpt", weights_only=True)["model"])]))
print(
    json.dumps(["wrapped", isinstance(model, torch.nn.Module), isinstance(optimizer, torch.optim.Optimizer)])
)
print(
    json.dumps(
        [
            "ops",
            float(fabric.all_reduce(torch.tensor(3.0))),
            fabric.broadcast("x"),
            list(fabric.all_gather(torch.ones(2)).shape),
        ]
    )
)
numbers = fabric.all_gather({"a": 1, "b": 2.5, "c": True, "d": torch.ones(2, 3), "e": "x"})
kinds = [[str(number.dtype), list(number.shape)] for key, number in numbers.items() if key != "e"]
print(json.dumps(["gathered", kinds, numbers["e"]]))
reduced = [fabric.all_reduce(number) for number in (2, 2.5, True)]
print(json.dumps(["reduced", [[str(number.dtype), float(number)] for number in reduced]]))
with fabric.rank_zero_first():
    pass
with fabric.init_module():
    print(json.dumps(["init", list(torch.nn.Linear(2, 2).weight.shape)]))
print(json.dumps(["tensor", str(fabric.to_device(torch.ones(1)).device), str(fabric.device)]))
