"""The modules of `lightning.fabric` and their public names, in the form of `names/pytorch.py`."""

_ACCELERATORS = """
    ACCELERATOR_REGISTRY Accelerator CPUAccelerator CUDAAccelerator MPSAccelerator find_usable_cuda_devices
"""
_PRECISION = """
    BitsandbytesPrecision DeepSpeedPrecision DoublePrecision FSDPPrecision HalfPrecision MixedPrecision
    Precision TransformerEnginePrecision
"""
_IO = "CheckpointIO TorchCheckpointIO"
_ENVIRONMENTS = """
    ClusterEnvironment KubeflowEnvironment LSFEnvironment LightningEnvironment MPIEnvironment
    SLURMEnvironment TorchElasticEnvironment
"""
_COLLECTIVES = "Collective SingleDeviceCollective TorchCollective"
_RANK_ZERO = "rank_zero_debug rank_zero_deprecation rank_zero_info rank_zero_only rank_zero_warn"
_THROUGHPUT = """
    Throughput ThroughputMonitor=blixt.fabric:ThroughputMonitor get_available_flops measure_flops
"""

FABRIC: dict[str, str] = {
    "": "Fabric disable_possible_user_warnings is_wrapped package_available seed_everything",
    "accelerators": _ACCELERATORS,
    "accelerators.accelerator": "Accelerator",
    "accelerators.cpu": "CPUAccelerator",
    "accelerators.cuda": "CUDAAccelerator find_usable_cuda_devices is_cuda_available num_cuda_devices",
    "accelerators.mps": "MPSAccelerator",
    "fabric": "Fabric",
    "loggers": "CSVLogger Logger TensorBoardLogger",
    "loggers.csv_logs": "CSVLogger",
    "loggers.logger": "Logger rank_zero_experiment",
    "loggers.tensorboard": "TensorBoardLogger",
    "plugins": f"{_PRECISION} {_IO} ClusterEnvironment",
    "plugins.collectives": _COLLECTIVES,
    "plugins.collectives.collective": "Collective",
    "plugins.collectives.single_device": "SingleDeviceCollective",
    "plugins.collectives.torch_collective": "TorchCollective",
    "plugins.environments": _ENVIRONMENTS,
    "plugins.environments.cluster_environment": "ClusterEnvironment",
    "plugins.environments.kubeflow": "KubeflowEnvironment",
    "plugins.environments.lightning": "LightningEnvironment find_free_network_port",
    "plugins.environments.lsf": "LSFEnvironment",
    "plugins.environments.mpi": "MPIEnvironment",
    "plugins.environments.slurm": "SLURMEnvironment",
    "plugins.environments.torchelastic": "TorchElasticEnvironment",
    "plugins.io": _IO,
    "plugins.io.checkpoint_io": "CheckpointIO",
    "plugins.io.torch_io": "TorchCheckpointIO",
    "plugins.precision": _PRECISION,
    "plugins.precision.amp": "MixedPrecision",
    "plugins.precision.bitsandbytes": "BitsandbytesPrecision",
    "plugins.precision.deepspeed": "DeepSpeedPrecision",
    "plugins.precision.double": "DoublePrecision",
    "plugins.precision.fsdp": "FSDPPrecision",
    "plugins.precision.half": "HalfPrecision",
    "plugins.precision.precision": "Precision",
    "plugins.precision.transformer_engine": "TransformerEnginePrecision",
    "strategies": """
        DDPStrategy DeepSpeedStrategy FSDPStrategy ModelParallelStrategy ParallelStrategy SingleDeviceStrategy
        STRATEGY_REGISTRY Strategy
    """,
    "strategies.ddp": "DDPStrategy",
    "strategies.deepspeed": "DeepSpeedStrategy",
    "strategies.fsdp": "FSDPStrategy",
    "strategies.model_parallel": "ModelParallelStrategy",
    "strategies.parallel": "ParallelStrategy",
    "strategies.single_device": "SingleDeviceStrategy",
    "strategies.strategy": "Strategy TBroadcast TReduce",
    "utilities": f"""
        AttributeDict LightningEnum {_RANK_ZERO} disable_possible_user_warnings is_shared_filesystem
        move_data_to_device suggested_max_num_workers {_THROUGHPUT}
    """,
    "utilities.apply_func": "convert_tensors_to_scalars convert_to_tensors move_data_to_device",
    "utilities.cloud_io": "get_filesystem",
    "utilities.consolidate_checkpoint": "",
    "utilities.data": "AttributeDict has_iterable_dataset has_len sized_len suggested_max_num_workers",
    "utilities.distributed": "is_shared_filesystem",
    "utilities.enums": "LightningEnum",
    "utilities.imports": """
        _IS_INTERACTIVE _IS_WINDOWS _NUMPY_AVAILABLE _PYTHON_GREATER_EQUAL_3_10_0 _RICH_AVAILABLE
        _TORCHMETRICS_GREATER_EQUAL_1_0_0 _TORCH_GREATER_EQUAL_2_1 _TORCH_GREATER_EQUAL_2_2
        _TORCH_GREATER_EQUAL_2_3 _TORCH_GREATER_EQUAL_2_4 _TORCH_GREATER_EQUAL_2_4_1
        _TORCH_GREATER_EQUAL_2_5 _TORCH_GREATER_EQUAL_2_6 _TORCH_GREATER_EQUAL_2_7
    """,
    "utilities.init": "_materialize_meta_tensors",
    "utilities.load": "_NotYetLoadedTensor _lazy_load",
    "utilities.exceptions": "MisconfigurationException",
    "utilities.rank_zero": f"{_RANK_ZERO} LightningDeprecationWarning WarningCache",
    "utilities.seed": "isolate_rng pl_worker_init_function reset_seed seed_everything",
    "utilities.spike": """
        SpikeDetection=blixt.compat.lightning.own.spike:SpikeDetection TrainingSpikeException
    """,
    "utilities.throughput": _THROUGHPUT,
    "utilities.types": """
        LRScheduler ReduceLROnPlateau=torch.optim.lr_scheduler:ReduceLROnPlateau ReduceOp
        CollectibleGroup Optimizable Steppable _DEVICE _MAP_LOCATION_TYPE _PATH
    """,
    "utilities.warnings": "PossibleUserWarning disable_possible_user_warnings",
    "wrappers": "is_wrapped",
}
