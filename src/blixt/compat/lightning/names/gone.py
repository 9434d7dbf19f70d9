"""What blixt does not have of Lightning's names, and what to use: the sentences of the import errors."""

from difflib import get_close_matches

_TPU = "blixt does not run on TPUs. Use accelerator='cuda', 'mps' or 'cpu'"
_HPU = "blixt does not run on Gaudi. Use accelerator='cuda', 'mps' or 'cpu'"
_PRIVATE = "it is private in Lightning, and blixt is built otherwise. docs/train/from-lightning.md says how"
_RENAMED_PRECISION = "it was renamed in Lightning 2.0. Use the class without 'Plugin' in its name"

NAMES: dict[str, str] = {
    "LitLogger": "it logs into Lightning's cloud. Use blixt.BlixtLogger for blixt's Experiments",
    "NeptuneLogger": "Lightning removed it in 2.6.4. Use WandbLogger, MLFlowLogger or BlixtLogger",
    "MNISTDataModule": "it downloads its data. examples/train reads digits that scikit-learn carries",
    "MNIST": "it downloads its data. examples/train reads digits that scikit-learn carries",
    "DistributedSamplerWrapper": "Trainer and Fabric divide any sampler of yours among the processes",
    "DataParallelStrategy": "one process for several GPUs is slow. Use strategy='ddp'",
    "LightningDoublePrecisionModule": "Lightning deprecated it. Use precision='64-true'",
    "LightningLite": "Lightning renamed it. Use Fabric",
    "LightningApp": "Lightning Apps are gone. `blixt up` starts a cloud, see docs/cloud",
    "LightningWork": "Lightning Apps are gone. `blixt up` starts a cloud, see docs/cloud",
    "LightningFlow": "Lightning Apps are gone. `blixt up` starts a cloud, see docs/cloud",
    "download_model_from_registry": "blixt's Models take its place, see blixt.client",
    "find_model_local_ckpt_path": "blixt's Models take its place, see blixt.client",
    "DeepSpeedSummary": "ModelSummary counts parameters that DeepSpeed holds, too",
    "DeepSpeedLayerSummary": "ModelSummary counts parameters that DeepSpeed holds, too",
    "EPOCH_OUTPUT": "Lightning 2.0 removed it. Collect outputs in the module and read them in on_*_epoch_end",
    "HPUAccelerator": _HPU,
    "SingleHPUStrategy": _HPU,
    "HPUParallelStrategy": _HPU,
}
"""Names of Lightning's that have no counterpart, each with what to do instead."""

MODULES: dict[str, str] = {
    "app": "Lightning Apps are gone. `blixt up` starts a cloud, see docs/cloud",
    "data": "use blixt.data, or blixt.compat.litdata for LitData's names",
    "trainer.connectors": _PRIVATE,
    "trainer.call": _PRIVATE,
    "trainer.setup": _PRIVATE,
    "trainer.configuration_validator": _PRIVATE,
    "loops": _PRIVATE,
    "overrides": _PRIVATE,
    "connector": _PRIVATE,
    "strategies.launchers": _PRIVATE,
    "strategies.registry": _PRIVATE,
    "_graveyard": "Lightning deprecated what is in there. Use today's names",
    "loggers.neptune": NAMES["NeptuneLogger"],
    "loggers.litlogger": NAMES["LitLogger"],
    "demos.mnist_datamodule": NAMES["MNISTDataModule"],
    "utilities.model_registry": NAMES["download_model_from_registry"],
    "utilities.deepspeed": "torch.distributed.checkpoint's and DeepSpeed's own tools convert its files",
    "utilities.testing": "pytest.mark.skipif does what its RunIf does",
    "lite": NAMES["LightningLite"],
}
"""Modules of Lightning's that have no counterpart, by their path within a tree; those below count, too."""


def sentence(module: str, name: str) -> str:
    """Why `module.name` cannot be had, and what to use.

    Args:
        module: A dotted path; "" when `name` is a package.
        name: What was asked of it.
    """
    asked = f"{module}.{name}" if module else name
    reason = NAMES.get(name) or _of_module(asked)
    tpu = "XLA" in name or name.startswith(("TPU", "SingleTPU")) or "xla" in asked.split(".")
    if reason is None and tpu:
        reason = _TPU
    if reason is None and name.endswith("PrecisionPlugin"):
        reason = _RENAMED_PRECISION
    if reason is None and name.startswith("_"):
        reason = _PRIVATE
    return f"blixt has no {asked}: {reason or _nearest(module, name)}."


def _of_module(asked: str) -> str | None:
    if asked in ("lightning.fabric.cli", "lightning_fabric.cli"):
        return "the commands are `blixt fabric run` and `blixt fabric consolidate`"
    heads = (
        "lightning.pytorch.",
        "lightning.fabric.",
        "pytorch_lightning.",
        "lightning_fabric.",
        "lightning.",
    )
    path = asked.removeprefix(next((head for head in heads if asked.startswith(head)), ""))
    found = (reason for key, reason in MODULES.items() if path == key or path.startswith(f"{key}."))
    return next(found, None)


def _nearest(module: str, name: str) -> str:
    # Imported here because the finder, which lookup does not know, needs both.
    from blixt.compat.lightning.names.lookup import public_names, submodules

    known = [*public_names(module), *submodules(module)]
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?".rstrip("?")
    return f"{module} gives {', '.join(sorted(known))}" if known else "there is no such module"
