"""Where blixt keeps what Lightning calls otherwise, or keeps elsewhere than the table's own room."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _own(file: str, names: str) -> dict[str, str]:
    return {name: f"blixt.compat.lightning.own.{file}:{name}" for name in names.split()}


def _in(file: str, names: str) -> dict[str, str]:
    return {name: f"{file}:{name}" for name in names.split()}


TOP = """
    Callback=blixt.trainer:Callback Fabric=blixt.fabric:Fabric LightningDataModule LightningModule
    Trainer=blixt.trainer:Trainer seed_everything
"""
"""The names of the package `lightning` itself, in the form of the module tables."""

IN_FABRIC = _words(
    """
    Accelerator CPUAccelerator CUDAAccelerator MPSAccelerator find_usable_cuda_devices
    BitsandbytesPrecision DeepSpeedPrecision DoublePrecision FSDPPrecision HalfPrecision MixedPrecision
    Precision TransformerEnginePrecision AsyncCheckpointIO CheckpointIO TorchCheckpointIO
    LayerSync TorchSyncBatchNorm ClusterEnvironment KubeflowEnvironment LSFEnvironment MPIEnvironment
    CSVLogger CometLogger DummyLogger Logger MLFlowLogger TensorBoardLogger WandbLogger rank_zero_experiment
    DDPStrategy DeepSpeedStrategy FSDPStrategy ModelParallelStrategy ParallelStrategy SingleDeviceStrategy
    Strategy SIGTERMException Throughput measure_flops get_available_flops
    rank_zero_deprecation rank_zero_info rank_zero_only rank_zero_warn
    is_shared_filesystem suggested_max_num_workers isolate_rng seed_everything
    """
)
"""Names that the front door of `blixt.fabric` has, wherever Lightning keeps them."""

TARGETS: dict[str, str] = {
    "LightningModule": "blixt.trainer:Module",
    "LightningDataModule": "blixt.trainer:DataModule",
    "LightningCLI": "blixt.trainer:CLI",
    "LightningArgumentParser": "blixt.trainer:ArgumentParser",
    "AttributeDict": "blixt.trainer:AttributeDict",
    "MisconfigurationException": "blixt.fabric:FabricError",
    "LRSchedulerConfig": "blixt.trainer:SchedulerConfig",
    "LightningEnvironment": "blixt.fabric:LocalEnvironment",
    "TorchElasticEnvironment": "blixt.fabric:TorchrunEnvironment",
    "SLURMEnvironment": "blixt.fabric:SlurmEnvironment",
    "move_data_to_device": "blixt.fabric:to_device",
    "_WrappingCheckpointIO": "blixt.fabric:WrappingCheckpointIO",
    "get_filesystem": "fsspec.core:url_to_fs",
    "LRScheduler": "torch.optim.lr_scheduler:LRScheduler",
    **_in(
        "blixt.trainer.boring",
        """
        BoringDataModule BoringDataModuleNoLen BoringModel DemoModel IterableBoringDataModule
        ManualOptimBoringModel Net RandomDataset RandomDictDataset RandomIterableDataset
        RandomIterableDatasetWithLen
        """,
    ),
    **_own(
        "types",
        """
        ArgsType EVAL_DATALOADERS LRSchedulerConfigType LRSchedulerPLType LRSchedulerTypeTuple
        LRSchedulerTypeUnion OptimizerConfig OptimizerLRScheduler OptimizerLRSchedulerConfig STEP_OUTPUT
        TRAIN_DATALOADERS
        """,
    ),
    **_own("enums", "GradClipAlgorithmType LightningEnum"),
    **_own(
        "messages",
        """
        LightningDeprecationWarning PossibleUserWarning WarningCache disable_possible_user_warnings
        rank_zero_debug
        """,
    ),
    **_own("memory", "garbage_collection_cuda is_cuda_out_of_memory is_oom_error recursive_detach"),
    **_own("data", "extract_batch_size has_iterable_dataset has_len has_len_all_ranks sized_len"),
    **_own(
        "checks",
        """
        do_nothing_closure find_shared_parameters from_compiled is_overridden is_param_in_hook_signature
        is_picklable lightning_getattr lightning_hasattr lightning_setattr set_shared_parameters to_uncompiled
        """,
    ),
    **_own("hooks", "CheckpointHooks DataHooks ModelHooks"),
    **_own("constants", "FLOAT16_EPSILON FLOAT32_EPSILON FLOAT64_EPSILON"),
}

COMMANDS: dict[str, str] = {
    "fabric.cli": "blixt.cli.fabric:main",
    "fabric.utilities.consolidate_checkpoint": "blixt.fabric.checkpoint:consolidate_main",
    "pytorch.utilities.consolidate_checkpoint": "blixt.fabric.checkpoint:consolidate_main",
    "pytorch.utilities.upgrade_checkpoint": "blixt.trainer.checkpoint:upgrade_main",
}
"""Modules that Lightning lets people run with `python -m`, and the function of ours that does it."""
