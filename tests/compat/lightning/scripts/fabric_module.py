"""A LightningModule in a Fabric loop, with callbacks and loggers of Fabric."""

import json

import torch
from lightning.fabric import Fabric, is_wrapped, seed_everything
from lightning.fabric.loggers import CSVLogger
from lightning.pytorch.demos.boring_classes import BoringModel

calls = []


class Calls:
    def on_thing(self, value):
        calls.append(["first", value])


class More:
    def on_thing(self, value):
        calls.append(["second", value])

    def on_other(self):
        calls.append(["other"])


seed_everything(2)
fabric = Fabric(accelerator="cpu", callbacks=[Calls(), More()], loggers=CSVLogger("logs", name="f"))
fabric.launch()
model = BoringModel()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
wrapped, optimizer = fabric.setup(model, optimizer)
wrapped.mark_forward_method("training_step")
for step, batch in enumerate(fabric.setup_dataloaders(model.train_dataloader())):
    if step == 5:
        break
    loss = wrapped.training_step(batch, step)["loss"]
    optimizer.zero_grad()
    fabric.backward(loss)
    optimizer.step()
    fabric.log("loss", loss, step=step)
    fabric.log_dict({"twice": loss * 2}, step=step)
fabric.call("on_thing", value=3)
fabric.call("on_other")
fabric.call("on_nothing")
fabric.logger.finalize("success")
print(json.dumps(["calls", calls]))
print(
    json.dumps(
        [
            "wrapped",
            is_wrapped(wrapped),
            is_wrapped(optimizer),
            is_wrapped(model),
            type(wrapped.module).__name__,
        ]
    )
)
print(json.dumps(["names", sorted(wrapped.state_dict()), fabric.logger is fabric.loggers[0]]))
fabric.print("said on rank 0")


def function(fabric, a):
    return [fabric.world_size, a]


print(json.dumps(["launch", Fabric(accelerator="cpu").launch(function, 4)]))


class MyFabric(Fabric):
    def run(self, n):
        return n + 1


print(json.dumps(["run", MyFabric(accelerator="cpu").run(1)]))
