"""A data module with hyper-parameters, state and loaders for every stage."""

import json

import lightning as L
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader, TensorDataset


class Data(L.LightningDataModule):
    def __init__(self, size=4, where="x"):
        super().__init__()
        self.save_hyperparameters()
        self.stages, self.loaded = [], None

    def prepare_data(self):
        self.stages.append("prepare")

    def setup(self, stage):
        self.stages.append(stage.value if hasattr(stage, "value") else stage)
        self.data = torch.ones(16, 32)

    def teardown(self, stage):
        self.stages.append("-" + (stage.value if hasattr(stage, "value") else stage))

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=self.hparams.size)

    def val_dataloader(self):
        return [DataLoader(self.data, batch_size=8)]

    def test_dataloader(self):
        return DataLoader(self.data, batch_size=16)

    def state_dict(self):
        return {"position": 5}

    def load_state_dict(self, state):
        self.loaded = state


class Model(BoringModel):
    def test_step(self, batch, batch_idx):
        self.log("n", float(len(batch)))


options = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "max_epochs": 1,
}
data = Data(size=8)
trainer = L.Trainer(**options)
model = Model()
trainer.fit(model, data)
print(json.dumps(["fit", data.stages, trainer.num_training_batches, trainer.num_val_batches]))
print(json.dumps(["test", trainer.test(datamodule=data, verbose=False), data.stages]))
path = trainer.checkpoint_callback.best_model_path
content = torch.load(path, weights_only=False)
print(json.dumps(["keys", sorted(key for key in content if key != "blixt")]))
print(
    json.dumps(
        ["state", content["Data"], content["datamodule_hyper_parameters"], content["datamodule_hparams_name"]]
    )
)
again = Data.load_from_checkpoint(path)
print(json.dumps(["again", dict(again.hparams)]))
new = Data(size=8)
options["max_epochs"] = 2
trainer = L.Trainer(**options)
trainer.fit(Model(), datamodule=new, ckpt_path=path)
print(json.dumps(["resumed", new.loaded, trainer.global_step]))
from_datasets = L.LightningDataModule.from_datasets(
    TensorDataset(torch.ones(6, 32)), TensorDataset(torch.ones(4, 32)), batch_size=2, num_workers=0
)
print(
    json.dumps(["from_datasets", len(from_datasets.train_dataloader()), len(from_datasets.val_dataloader())])
)
