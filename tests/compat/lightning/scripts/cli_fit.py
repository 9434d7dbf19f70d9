"""A LightningCLI program: subcommands, options, links, the saved configuration, classes by name."""

import json
import sys

import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback
from torch.utils.data import DataLoader


class Data(LightningDataModule):
    def __init__(self, size: int = 4, rows: int = 8):
        super().__init__()
        self.size, self.rows = size, rows

    def train_dataloader(self):
        return DataLoader(torch.ones(self.rows, 3), batch_size=self.size)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Model(LightningModule):
    def __init__(self, width: int = 2, rate: float = 0.1, size: int = 0):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(3, width)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def validation_step(self, batch, batch_idx):
        self.log("v", 1.0)

    def test_step(self, batch, batch_idx):
        self.log("t", 2.0)


class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.link_arguments("data.size", "model.size")
        parser.set_defaults({"model.rate": 0.3})


quiet = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def run(title, args, **options):
    sys.argv = ["program.py"]
    try:
        options = {"save_config_callback": None} | options
        cli = CLI(Model, Data, args=args, trainer_defaults=quiet | {"max_epochs": 1}, **options)
    except SystemExit as stop:
        print(json.dumps([title, "exit", stop.code]))
        return
    trainer = cli.trainer
    hparams = {name: value for name, value in cli.model.hparams.items() if name[0] != "_"}
    facts = [cli.subcommand, hparams, cli.datamodule.size, trainer.max_epochs, trainer.global_step]
    optimizer = [type(o).__name__ for o in cli.trainer.optimizers]
    print(json.dumps([title, facts, optimizer]))


sgd = ["--optimizer", "SGD", "--optimizer.lr", "0.5"]
run("fit", ["fit", "--model.width", "5", "--data.size", "2", *sgd])
run("validate", ["validate", "--model.width=3"])
run("test", ["test"])
run("scheduler", ["fit", *sgd, "--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "1"])
run("trainer", ["fit", "--trainer.max_epochs", "2", "--trainer.limit_train_batches=1", *sgd])
run("callback", ["fit", "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=v", *sgd])
run("seed", ["fit", "--seed_everything", "7", *sgd])
run("no run", ["--model.width", "4"], run=False)
run("wrong", ["fit", "--model.wide", "4"])
run("wrong value", ["fit", "--model.width", "x"])
run(
    "dict",
    {
        "fit": {
            "model": {"width": 6},
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        }
    },
)
with open("conf.yaml", "w") as file:
    file.write("model:\n  width: 9\ntrainer:\n  max_steps: 1\n")
run("config", ["fit", "--config", "conf.yaml", *sgd], save_config_callback=SaveConfigCallback)
with open("config.yaml") as file:
    saved = yaml.safe_load(file)
print(json.dumps(["saved", saved["model"], saved["data"], saved["optimizer"], saved["trainer"]["max_steps"]]))
