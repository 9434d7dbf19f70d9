"""The command line itself: parse, make the objects, run."""

# jsonargparse leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false

import inspect
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial, update_wrapper
from types import MethodType
from typing import Any, cast

import yaml
from jsonargparse import ActionConfigFile, Namespace, class_from_function
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import blixt
from blixt.fabric import ConfigError, seed_everything
from blixt.fabric.checkpoint import load_file
from blixt.trainer.callback import Callback
from blixt.trainer.cli.instances import RecordingInstantiator, instantiate_class
from blixt.trainer.cli.optimizers import ArgsType, LRSchedulerTypeTuple, configured
from blixt.trainer.cli.parser import AUTOMATIC, ArgumentParser, Registered
from blixt.trainer.cli.save_config import SaveConfigCallback
from blixt.trainer.datamodule import DataModule
from blixt.trainer.hooks import overridden
from blixt.trainer.module import Module
from blixt.trainer.trainer import Trainer


class CLI:
    """Makes trainer, module and data module from a command line and YAML files, and runs one of their verbs.

    `python main.py fit --model.width=64 --trainer.max_epochs=3 --config base.yaml --config mine.yaml`

    Derive from it to add arguments (`add_arguments_to_parser`), to do something before or after a verb
    (`before_fit`, `after_fit`, ...), or to replace a verb (`fit`, ...).

    Args:
        model_class: The module's class, or a function that makes one; None lets `--model=ClassName` choose.
        datamodule_class: The same for `--data`.
        save_config_callback: What saves the configuration; None for nothing.
        save_config_kwargs: Further arguments for it.
        trainer_class: The trainer's class, or a function that makes one.
        trainer_defaults: Defaults of trainer arguments; "callbacks" among them are always there.
        seed_everything_default: The seed, True for one that is chosen, or False for none.
        parser_kwargs: For `ArgumentParser`; by the name of a subcommand for that one only.
        parser_class: The parser.
        subclass_mode_model: Let `--model=ClassName` choose among subclasses of `model_class`.
        subclass_mode_data: The same for `--data`.
        args: Use these instead of `sys.argv`: words, or a dict of values.
        run: Have subcommands and run one; False only makes the objects.
        auto_configure_optimizers: Have `--optimizer` and `--lr_scheduler`, which write the module's
            `configure_optimizers`.
        load_from_checkpoint_support: Let `save_hyperparameters` keep the parsed values, so that
            `load_from_checkpoint` can make objects among them again.

    Attributes:
        parser: That parsed.
        config: What was parsed, with plain values.
        config_init: The same with objects.
        subcommand: What runs; None with `run=False`.
        trainer: The trainer.
        model: The module.
        datamodule: The data module, or None.
    """

    def __init__(
        self,
        model_class: type[Module] | Callable[..., Module] | None = None,
        datamodule_class: type[DataModule] | Callable[..., DataModule] | None = None,
        save_config_callback: type[SaveConfigCallback] | None = SaveConfigCallback,
        save_config_kwargs: dict[str, Any] | None = None,
        trainer_class: type[Trainer] | Callable[..., Trainer] = Trainer,
        trainer_defaults: dict[str, Any] | None = None,
        seed_everything_default: bool | int = True,
        parser_kwargs: dict[str, Any] | None = None,
        parser_class: type[ArgumentParser] = ArgumentParser,
        subclass_mode_model: bool = False,
        subclass_mode_data: bool = False,
        args: ArgsType = None,
        run: bool = True,
        auto_configure_optimizers: bool = True,
        load_from_checkpoint_support: bool = True,
    ) -> None:
        self.model_class = model_class
        self.datamodule_class = datamodule_class
        self.subclass_mode_model = model_class is None or subclass_mode_model
        self.subclass_mode_data = datamodule_class is None or subclass_mode_data
        self.save_config_callback = save_config_callback
        self.save_config_kwargs = save_config_kwargs or {}
        self.trainer_class = trainer_class
        self.trainer_defaults = trainer_defaults or {}
        self.seed_everything_default = seed_everything_default
        self.parser_kwargs = parser_kwargs or {}
        self.parser_class = parser_class
        self.auto_configure_optimizers = auto_configure_optimizers
        self._plain: dict[str, Any] | None = None
        self._parsers: dict[str, ArgumentParser] = {}
        self._verb_arguments: dict[str, list[str]] = {}
        self.config: Namespace = Namespace()
        self.config_init: Namespace = Namespace()
        import_names()
        of_verbs = {name: value for name, value in self.parser_kwargs.items() if name in self.subcommands()}
        of_main = {name: value for name, value in self.parser_kwargs.items() if name not in of_verbs}
        self.setup_parser(run, of_main, of_verbs)
        self.parse_arguments(self.parser, args)
        self.subcommand: str | None = self.config["subcommand"] if run else None
        self._take_hyperparameters_of_checkpoint()
        self._seed()
        if load_from_checkpoint_support:
            self._record_hyperparameters()
        self.before_instantiate_classes()
        self.instantiate_classes()
        self.after_instantiate_classes()
        if self.subcommand is not None:
            self._run(self.subcommand)

    # --- what to override -------------------------------------------------------------------------

    def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
        """Add or link arguments; called for the parser of each subcommand."""

    def before_instantiate_classes(self) -> None:
        """The configuration is parsed, nothing is made yet."""

    def after_instantiate_classes(self) -> None:
        """Everything is made, nothing runs yet."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The verbs, and which of their arguments are not for the command line."""
        evaluation = {"model", "dataloaders", "datamodule"}
        fit = {"model", "train_dataloaders", "val_dataloaders", "datamodule"}
        return {"fit": fit, **{verb: set(evaluation) for verb in ("validate", "test", "predict")}}

    @staticmethod
    def configure_optimizers(
        lightning_module: Module, optimizer: Optimizer, lr_scheduler: LRScheduler | None = None
    ) -> Any:
        """What the module's `configure_optimizers` returns when `--optimizer` is given."""
        return configured(optimizer, lr_scheduler)

    # --- parsers ----------------------------------------------------------------------------------

    def init_parser(self, **kwargs: Any) -> ArgumentParser:
        """A parser that reads files given by --config."""
        kwargs.setdefault("dump_header", [f"blixt=={blixt.__version__}"])
        parser = self.parser_class(**kwargs)
        parser.add_argument(
            "-c",
            "--config",
            action=ActionConfigFile,
            help="Path to a configuration file in json or yaml format.",
        )
        return parser

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """Make the parser, with one for each subcommand if there are any."""
        self.parser = self.init_parser(**main_kwargs)
        if not add_subcommands:
            self._add_arguments(self.parser)
            return
        commands: Any = self.parser.add_subcommands()
        kind: Any = self.trainer_class
        kind = kind if isinstance(kind, type) else class_from_function(kind)
        for verb, left_out in self.subcommands().items():
            about = (inspect.getdoc(getattr(kind, verb)) or verb).splitlines()[0]
            parser = self.init_parser(**{"description": about, **subparser_kwargs.get(verb, {})})
            self._add_arguments(parser)
            self._verb_arguments[verb] = parser.add_method_arguments(kind, verb, skip=set(left_out))
            self._parsers[verb] = parser
            commands.add_subcommand(verb, parser, help=about)

    def add_default_arguments_to_parser(self, parser: ArgumentParser) -> None:
        """Add what every command line has."""
        parser.add_argument(
            "--seed_everything",
            type=bool | int,
            default=self.seed_everything_default,
            help="Seed all generators with this number before anything is made; true chooses one.",
        )

    def add_core_arguments_to_parser(self, parser: ArgumentParser) -> None:
        """Add the arguments of trainer, module and data module."""
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{k}": v for k, v in self.trainer_defaults.items() if k != "callbacks"})
        parser.add_lightning_class_args(
            self.model_class or Module, "model", subclass_mode=self.subclass_mode_model
        )
        parser.add_lightning_class_args(
            self.datamodule_class or DataModule,
            "data",
            subclass_mode=self.subclass_mode_data,
            required=self.datamodule_class is not None,
        )

    @staticmethod
    def link_optimizers_and_lr_schedulers(parser: ArgumentParser) -> None:
        """Link the groups of optimizers and schedulers that have a place to go."""
        for key, (kind, target) in {**parser.optimizer_groups, **parser.lr_scheduler_groups}.items():
            if target == AUTOMATIC:
                continue
            if isinstance(kind, tuple):
                parser.link_arguments(key, target)
            else:
                parser.link_arguments(key, target, compute_fn=partial(_with_class_path, kind))

    def parse_arguments(self, parser: ArgumentParser, args: ArgsType) -> None:
        """Parse into `config`."""
        if args is not None and len(sys.argv) > 1:
            unread = " ".join(sys.argv[1:])
            warnings.warn(f"CLI(args=...) is used; the command line is not read: {unread}", stacklevel=3)
        if isinstance(args, (dict, Namespace)):
            self.config = parser.parse_object(args)
        else:
            self.config = parser.parse_args(args)

    def _add_arguments(self, parser: ArgumentParser) -> None:
        self.add_default_arguments_to_parser(parser)
        self.add_core_arguments_to_parser(parser)
        self.add_arguments_to_parser(parser)
        if self.auto_configure_optimizers:
            if not parser.optimizer_groups:
                parser.add_optimizer_args((Optimizer,))
            if not parser.lr_scheduler_groups:
                parser.add_lr_scheduler_args(LRSchedulerTypeTuple)
        self.link_optimizers_and_lr_schedulers(parser)

    def _parser(self, subcommand: str | None) -> ArgumentParser:
        return self.parser if subcommand is None else self._parsers[subcommand]

    # --- between parsing and making ---------------------------------------------------------------

    def plain_config(self) -> dict[str, Any]:
        """The configuration of the subcommand as it would be written to a file."""
        if self._plain is None:
            text = self.parser.dump(self.config, skip_link_targets=False, skip_none=False, format="yaml")
            whole = cast("dict[str, Any]", yaml.safe_load(text))
            self._plain = whole if self.subcommand is None else cast("dict[str, Any]", whole[self.subcommand])
        return self._plain

    def _take_hyperparameters_of_checkpoint(self) -> None:
        """Make the module as the one in the checkpoint that `--ckpt_path` names."""
        path = None if self.subcommand is None else self.config[self.subcommand].get("ckpt_path")
        if not path or not os.path.isfile(path):
            return
        content: dict[str, Any] = load_file(path)
        kept: dict[str, Any] = dict(content.get("hyper_parameters") or {})
        kept.pop("_instantiator", None)
        if not kept:
            return
        if "_class_path" in kept:
            kept = {"class_path": kept.pop("_class_path"), "dict_kwargs": kept}
        try:
            self.config = self.parser.parse_object({str(self.subcommand): {"model": kept}}, self.config)
        except SystemExit:
            sys.stderr.write(f"The hyperparameters in {path} do not fit this model.\n")
            raise

    def _seed(self) -> None:
        seed = self._get(self.config, "seed_everything")
        if seed is False:
            return
        chosen = seed_everything(workers=True) if seed is True else seed_everything(seed, workers=True)
        place: Any = self.config if self.subcommand is None else self.config[self.subcommand]
        place["seed_everything"] = chosen

    def _record_hyperparameters(self) -> None:
        pairs = (
            ("model", self.model_class or Module, self.subclass_mode_model),
            ("data", self.datamodule_class or DataModule, self.subclass_mode_data),
        )
        for key, kind, subclasses in pairs:
            made: Any = kind if isinstance(kind, type) else inspect.signature(kind).return_annotation
            self.parser.add_instantiator(RecordingInstantiator(self, key), made, subclasses=subclasses)

    # --- objects ----------------------------------------------------------------------------------

    def instantiate_classes(self) -> None:
        """Make data module, module and trainer."""
        self.config_init = cast("Namespace", self.parser.instantiate_classes(self.config))
        self.datamodule: DataModule | None = self._get(self.config_init, "data")
        self.model: Module = self._get(self.config_init, "model")
        if self.auto_configure_optimizers:
            self._write_configure_optimizers()
        self.trainer: Trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer; `kwargs` win over the configuration."""
        parser = self._parser(self.subcommand)
        own = [self._get(self.config_init, key) for key in parser.callback_keys]
        values: Any = self._get(self.config_init, "trainer") or {}
        config: dict[str, Any] = {**cast("dict[str, Any]", dict(values)), **kwargs}
        if "callbacks" not in config:
            kind = getattr(self.trainer_class, "__name__", "This trainer")
            warnings.warn(f"{kind} takes no callbacks: those of the CLI are left out.", stacklevel=2)
        else:
            always = _listed(self.trainer_defaults.get("callbacks"))
            config["callbacks"] = [*_listed(config["callbacks"]), *own, *always, *self._saver(parser, config)]
        return self.trainer_class(**config)

    def _saver(self, parser: ArgumentParser, config: dict[str, Any]) -> list[Callback]:
        if self.save_config_callback is None or config.get("fast_dev_run"):
            return []
        place = self.config if self.subcommand is None else self.config[self.subcommand]
        return [self.save_config_callback(parser, place, **self.save_config_kwargs)]

    def _write_configure_optimizers(self) -> None:
        """Let `--optimizer` and `--lr_scheduler` be what the module's `configure_optimizers` returns."""
        parser = self._parser(self.subcommand)
        optimizers = [key for key, (_, target) in parser.optimizer_groups.items() if target == AUTOMATIC]
        schedulers = [key for key, (_, target) in parser.lr_scheduler_groups.items() if target == AUTOMATIC]
        if len(optimizers) > 1 or len(schedulers) > 1:
            reason = "which is for what cannot be guessed"
            fix = "Give link_to, and write configure_optimizers"
            raise ConfigError("CLI(optimizers)", [*optimizers, *schedulers], reason, fix)
        optimizer_init = self._init_of(parser.optimizer_groups, optimizers)
        if not optimizer_init:
            return
        if overridden(self.model, "configure_optimizers", Module):
            name = type(self.model).__name__
            warnings.warn(f"--optimizer replaces configure_optimizers of {name}.", stacklevel=2)
        scheduler_init = self._init_of(parser.lr_scheduler_groups, schedulers)

        def configure(module: Module) -> Any:
            optimizer = instantiate_class(module.parameters(), optimizer_init)
            scheduler = instantiate_class(optimizer, scheduler_init) if scheduler_init else None
            return self.configure_optimizers(module, optimizer=optimizer, lr_scheduler=scheduler)

        update_wrapper(configure, self.configure_optimizers)
        vars(self.model)["configure_optimizers"] = MethodType(configure, self.model)

    def _init_of(self, groups: Registered, keys: list[str]) -> dict[str, Any] | None:
        """Class path and arguments of a group, if it is used."""
        if not keys:
            return None
        kind, init = groups[keys[0]][0], self._get(self.config_init, keys[0])
        return (
            cast("dict[str, Any] | None", init) if isinstance(kind, tuple) else _with_class_path(kind, init)
        )

    def _get(self, config: Namespace, key: str) -> Any:
        """A value of the subcommand that runs."""
        inner: Any = config if self.subcommand is None else config[self.subcommand]
        return inner.get(key)

    # --- running ----------------------------------------------------------------------------------

    def _run(self, verb: str) -> None:
        before: Callable[[], None] | None = getattr(self, f"before_{verb}", None)
        if before is not None:
            before()
        arguments = self._arguments_of(verb)
        getattr(self, verb, getattr(self.trainer, verb))(**arguments)
        after: Callable[[], None] | None = getattr(self, f"after_{verb}", None)
        if after is not None:
            after()

    def _arguments_of(self, verb: str) -> dict[str, Any]:
        given: Any = self.config_init[verb]
        arguments = {name: given[name] for name in self._verb_arguments[verb] if name in given}
        arguments["model"] = self.model
        if self.datamodule is not None:
            arguments["datamodule"] = self.datamodule
        return arguments


_NAMED = ("Accelerator", "Environment", "IO", "Logger", "Precision", "Profiler", "Strategy")


def import_names() -> None:
    """Import what short names may mean: jsonargparse finds them among the classes that are imported."""
    from blixt import fabric, trainer
    from blixt.trainer import callbacks

    for name in callbacks.__all__:
        getattr(callbacks, name)
    for room in (fabric, trainer):
        for name in room.__all__:
            if name.endswith(_NAMED):
                getattr(room, name)


def _with_class_path(kind: type, init_args: Any = None) -> dict[str, Any]:
    values = init_args.as_dict() if isinstance(init_args, Namespace) else init_args
    return {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": values or {}}


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(cast("list[Any]", value)) if isinstance(value, (list, tuple)) else [value]
