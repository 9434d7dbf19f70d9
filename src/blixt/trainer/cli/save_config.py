"""Keep the configuration of a run beside its logs."""

# jsonargparse leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false

import os
from typing import TYPE_CHECKING, Any

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback
from blixt.trainer.callbacks.checkpoint_files import exists, is_local
from blixt.trainer.hooks import overridden

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from blixt.trainer.cli.parser import ArgumentParser
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class ConfigExistsError(ConfigError, RuntimeError):
    """Another run's configuration lies where this one's is to be saved."""


class SaveConfigCallback(Callback):
    """Saves the configuration of a `CLI` into the folder of the logs, before anything runs.

    Args:
        parser: That parsed it.
        config: The parsed configuration.
        config_filename: Name of the file.
        overwrite: Write over the file of another run.
        multifile: When several files were read, save several.
        save_to_log_dir: False leaves everything to `save_config`.
    """

    def __init__(
        self,
        parser: "ArgumentParser",
        config: "Namespace",
        config_filename: str = "config.yaml",
        overwrite: bool = False,
        multifile: bool = False,
        save_to_log_dir: bool = True,
    ) -> None:
        if not save_to_log_dir and not overridden(self, "save_config", SaveConfigCallback):
            reason = "then nothing saves the configuration"
            raise ConfigError(
                "SaveConfigCallback(save_to_log_dir)", False, reason, "Override save_config as well"
            )
        self.parser = parser
        self.config = config
        self.config_filename = config_filename
        self.overwrite = overwrite
        self.multifile = multifile
        self.save_to_log_dir = save_to_log_dir
        self.already_saved = False

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Save it once."""
        if self.already_saved:
            return
        if self.save_to_log_dir:
            folder = trainer.fabric.broadcast(str(trainer.log_dir or trainer.default_root_dir))
            self._save(trainer, folder)
        if trainer.is_global_zero:
            self.save_config(trainer, module, stage)
        self.already_saved = True

    def save_config(self, trainer: "Trainer", pl_module: "Module", stage: str) -> None:
        """Override it to save the configuration somewhere else as well; only rank 0 calls it."""

    def _save(self, trainer: "Trainer", folder: str) -> None:
        path = os.path.join(folder, self.config_filename)
        taken = trainer.fabric.broadcast(trainer.is_global_zero and exists(path))
        if taken and not self.overwrite:
            reason = "the file exists. Aborting to avoid overwriting results of a previous run"
            fix = "Delete it, or use CLI(save_config_kwargs={'overwrite': True}) or save_config_callback=None"
            raise ConfigExistsError("SaveConfigCallback(path)", path, reason, fix)
        if trainer.is_global_zero:
            if is_local(folder):
                os.makedirs(folder, exist_ok=True)
            options: dict[str, Any] = {"skip_none": False, "overwrite": self.overwrite}
            self.parser.save(self.config, path, multifile=self.multifile, **options)
