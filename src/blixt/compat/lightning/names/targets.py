"""Where blixt keeps what Lightning calls otherwise, or keeps elsewhere than the table's own room."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _own(file: str, names: str) -> dict[str, str]:
    return {name: f"blixt.compat.lightning.own.{file}:{name}" for name in names.split()}


def _in(file: str, names: str) -> dict[str, str]:
    return {name: f"{file}:{name}" for name in names.split()}


TOP = """
    Callback=blixt.trainer:Callback Fabric LightningDataModule LightningModule Trainer seed_everything
"""
"""The names of the package `lightning` itself, in the form of the module tables."""

IN_FABRIC = _words(
    """
    Accelerator CPUAccelerator CUDAAccelerator MPSAccelerator find_usable_cuda_devices
    BitsandbytesPrecision DoublePrecision HalfPrecision MixedPrecision
    Precision TransformerEnginePrecision AsyncCheckpointIO CheckpointIO TorchCheckpointIO
    LayerSync TorchSyncBatchNorm
    CometLogger DummyExperiment DummyLogger Logger MLFlowLogger WandbLogger rank_zero_experiment
    ParallelStrategy Strategy Throughput measure_flops get_available_flops
    rank_zero_deprecation rank_zero_info rank_zero_only rank_zero_warn
    isolate_rng seed_everything
    """
)
"""Names that the front door of `blixt.fabric` has, wherever Lightning keeps them."""

TARGETS: dict[str, str] = {
    "LightningModule": "blixt.trainer:Module",
    "LightningDataModule": "blixt.trainer:DataModule",
    "LightningCLI": "blixt.compat.lightning.own.trainer:CLI",
    "LightningOptimizer": "blixt.trainer:TrainerOptimizer",
    "LightningArgumentParser": "blixt.trainer:ArgumentParser",
    "AttributeDict": "blixt.trainer:AttributeDict",
    "MisconfigurationException": "blixt.fabric:FabricError",
    "LRSchedulerConfig": "blixt.trainer:SchedulerConfig",
    "LightningEnvironment": "blixt.fabric.cluster:LocalEnvironment",
    "TorchElasticEnvironment": "blixt.fabric.cluster:TorchrunEnvironment",
    "SLURMEnvironment": "blixt.fabric.cluster:SlurmEnvironment",
    **_in("blixt.fabric.cluster", "ClusterEnvironment KubeflowEnvironment LSFEnvironment MPIEnvironment"),
    "find_free_network_port": "blixt.fabric.cluster:free_port",
    "SIGTERMException": "builtins:SystemExit",
    "pl_worker_init_function": "blixt.fabric.rng:seed_worker",
    "suggested_max_num_workers": "blixt.fabric.data:suggested_max_num_workers",
    "move_data_to_device": "blixt.fabric:to_device",
    "_WrappingCheckpointIO": "blixt.fabric:WrappingCheckpointIO",
    "ReduceOp": "torch.distributed:ReduceOp",
    "is_cuda_available": "torch.cuda:is_available",
    "num_cuda_devices": "torch.cuda:device_count",
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
        CollectibleGroup Optimizable Steppable TBroadcast TRAIN_DATALOADERS TReduce _DEVICE _MAP_LOCATION_TYPE
        _PATH
        """,
    ),
    **_own("gathering", "Fabric"),
    **_own("strategies", "DDPStrategy SingleDeviceStrategy"),
    **_own("strategies_sharded", "DeepSpeedStrategy FSDPStrategy ModelParallelStrategy"),
    **_own("enums", "GradClipAlgorithmType LightningEnum"),
    **_own(
        "messages",
        """
        LightningDeprecationWarning PossibleUserWarning WarningCache disable_possible_user_warnings
        rank_zero_debug
        """,
    ),
    **_own(
        "memory",
        """
        garbage_collection_cuda is_cuda_out_of_memory is_cudnn_snafu is_oom_error is_out_of_cpu_memory
        recursive_detach
        """,
    ),
    **_own(
        "imports",
        """
        _IS_INTERACTIVE _IS_WINDOWS _NUMPY_AVAILABLE _OMEGACONF_AVAILABLE _PYTHON_GREATER_EQUAL_3_10_0
        _RICH_AVAILABLE _TORCHMETRICS_GREATER_EQUAL_1_0_0 _TORCHVISION_AVAILABLE _TORCH_GREATER_EQUAL_2_1
        _TORCH_GREATER_EQUAL_2_2 _TORCH_GREATER_EQUAL_2_3 _TORCH_GREATER_EQUAL_2_4
        _TORCH_GREATER_EQUAL_2_4_1 _TORCH_GREATER_EQUAL_2_5 _TORCH_GREATER_EQUAL_2_6
        _TORCH_GREATER_EQUAL_2_7 module_available package_available
        """,
    ),
    **_own(
        "parsing",
        """
        clean_namespace collect_init_args convert convert_inf get_torchvision_model multiplicative
        parse_class_init_keys update_hparams
        """,
    ),
    "instantiate_module": "blixt.trainer.cli.instances:instantiate_module",
    **_own("demos.lstm", "LightningLSTM SequenceSampler SimpleLSTM"),
    **_own("demos.transformer", "LightningTransformer PositionalEncoding Transformer"),
    **_own("demos.wikitext", "Dictionary WikiText2 tokenize"),
    **_own("precisions", "DeepSpeedPrecision FSDPPrecision"),
    **_own("registries", "AcceleratorRegistry StrategyRegistry"),
    "ACCELERATOR_REGISTRY": "blixt.compat.lightning.own.registries:AcceleratorRegistry",
    "STRATEGY_REGISTRY": "blixt.compat.lightning.own.registries:StrategyRegistry",
    **_own("servable", "ServableModule ServableModuleValidator"),
    **_own("stats", "get_cpu_stats get_device_stats get_nvidia_gpu_stats"),
    **_own("tqdm_bar", "TQDMProgressBar"),
    "BatchesProcessedColumn": "blixt.trainer.callbacks.rich_columns:BatchesColumn",
    "CustomBarColumn": "rich.progress:BarColumn",
    "CustomTimeColumn": "blixt.trainer.callbacks.rich_columns:TimeColumn",
    "ProcessingSpeedColumn": "blixt.trainer.callbacks.rich_columns:SpeedColumn",
    **_own("xla", "XLAProfiler"),
    "TrainingSpikeException": "blixt.trainer.callbacks.spike_detection:TrainingSpikeException",
    "DistributedDataParallel": "torch.nn.parallel:DistributedDataParallel",
    "_NotYetLoadedTensor": "blixt.compat.lightning.own.loading:NotYetLoadedTensor",
    "_lazy_load": "blixt.compat.lightning.own.loading:lazy_load",
    "_materialize_meta_tensors": "blixt.compat.lightning.own.loading:materialize_meta_tensors",
    **_own(
        "data",
        """
        convert_tensors_to_scalars convert_to_tensors extract_batch_size get_filesystem has_iterable_dataset
        has_len has_len_all_ranks merge_dicts sized_len
        """,
    ),
    **_own(
        "checks",
        """
        do_nothing_closure find_shared_parameters from_compiled get_init_args is_overridden
        is_param_in_hook_signature is_picklable lightning_getattr lightning_hasattr lightning_setattr
        set_shared_parameters to_uncompiled
        """,
    ),
    **_own("trainer", "CSVLogger TensorBoardLogger Trainer"),
    **_own("machine", "is_shared_filesystem"),
    "grad_norm": "blixt.compat.lightning.own.checks:grad_norm",
    **_own("hooks", "CheckpointHooks DataHooks ModelHooks"),
    **_own(
        "saving",
        """
        load_hparams_from_tags_csv load_hparams_from_yaml save_hparams_to_tags_csv save_hparams_to_yaml
        """,
    ),
    **_own("constants", "FLOAT16_EPSILON FLOAT32_EPSILON FLOAT64_EPSILON"),
}

_COMMANDS = "blixt.compat.lightning.own.commands"
COMMANDS: dict[str, str] = {
    "fabric.utilities.consolidate_checkpoint": f"{_COMMANDS}:consolidate_checkpoint",
    "pytorch.utilities.consolidate_checkpoint": f"{_COMMANDS}:consolidate_checkpoint",
    "pytorch.utilities.upgrade_checkpoint": f"{_COMMANDS}:upgrade_checkpoint",
}
"""Modules that Lightning lets people run with `python -m`, and the function of ours that does it."""
