"""Every hook of module, data module and callback in the order in which it runs."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import BoringModel, RandomDataset
from torch.utils.data import DataLoader

calls = []
NAMES = [
    "setup",
    "teardown",
    "prepare_data",
    "configure_callbacks",
    "configure_model",
    "on_fit_start",
    "on_fit_end",
    "on_sanity_check_start",
    "on_sanity_check_end",
    "on_train_start",
    "on_train_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_validation_start",
    "on_validation_end",
    "on_validation_epoch_start",
    "on_validation_epoch_end",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_test_start",
    "on_test_end",
    "on_test_epoch_start",
    "on_test_epoch_end",
    "on_test_batch_start",
    "on_test_batch_end",
    "on_predict_start",
    "on_predict_end",
    "on_predict_epoch_start",
    "on_predict_epoch_end",
    "on_predict_batch_start",
    "on_predict_batch_end",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    "optimizer_step",
    "optimizer_zero_grad",
    "backward",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_save_checkpoint",
    "on_load_checkpoint",
    "on_validation_model_eval",
    "on_validation_model_train",
    "on_test_model_eval",
    "on_predict_model_eval",
    "on_validation_model_zero_grad",
    "configure_optimizers",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "training_step",
    "validation_step",
    "test_step",
    "predict_step",
    "state_dict",
    "load_state_dict",
]


def spy(base, tag):
    def make(name):
        original = getattr(base, name)

        def method(self, *args, **kwargs):
            calls.append(f"{tag}.{name}")
            return original(self, *args, **kwargs)

        return method

    return type(tag, (base,), {name: make(name) for name in NAMES if hasattr(base, name)})


class Data(pl.LightningDataModule):
    def loader(self):
        return DataLoader(RandomDataset(32, 4), batch_size=2)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


class Model(BoringModel):
    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = None

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1), "interval": "step"}]

    def lr_scheduler_step(self, scheduler, metric):
        scheduler.step()


def flush(title):
    print(json.dumps([title, list(calls)]))
    calls.clear()


M = spy(BoringModel, "M")
D = spy(Data, "D")
C = spy(pl.Callback, "C")


class Scheduled(M):
    def configure_optimizers(self):
        calls.append("M.configure_optimizers")
        optimizer = torch.optim.SGD(self.layer.parameters(), lr=0.1)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1), "interval": "step"}]


options = {
    "max_epochs": 1,
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
model = Scheduled()
for name in ("train", "val", "test", "predict"):
    setattr(type(model), f"{name}_dataloader", getattr(pl.LightningModule, f"{name}_dataloader"))
trainer = pl.Trainer(callbacks=[C()], gradient_clip_val=1.0, num_sanity_val_steps=1, **options)
calls.clear()
trainer.fit(model, datamodule=D())
flush("fit")
trainer.save_checkpoint("a.ckpt")
flush("save")
trainer.validate(model, datamodule=D(), verbose=False)
flush("validate")
trainer.test(model, datamodule=D(), verbose=False)
flush("test")
trainer.predict(model, datamodule=D())
flush("predict")
options["max_epochs"] = 2
trainer = pl.Trainer(callbacks=[C()], accumulate_grad_batches=2, limit_val_batches=0, **options)
calls.clear()
trainer.fit(Scheduled(), datamodule=D(), ckpt_path="a.ckpt")
flush("resume")
