"""The modules of `lightning.pytorch` and their public names.

One line a module; `Name` is found by `lookup.target`, `Name=file:attribute` says where it is when two of
Lightning's modules use one name for different things.
"""

_CALLBACKS = """
    BackboneFinetuning BaseFinetuning BasePredictionWriter BatchSizeFinder Callback Checkpoint
    DeviceStatsMonitor EMAWeightAveraging EarlyStopping GradientAccumulationScheduler LambdaCallback
    LearningRateFinder LearningRateMonitor ModelCheckpoint ModelPruning ModelSummary OnExceptionCheckpoint
    ProgressBar RichModelSummary RichProgressBar SpikeDetection StochasticWeightAveraging TQDMProgressBar
    ThroughputMonitor Timer WeightAveraging
"""
_PRECISION = """
    BitsandbytesPrecision DeepSpeedPrecision DoublePrecision FSDPPrecision HalfPrecision MixedPrecision
    Precision TransformerEnginePrecision
"""
_IO = "AsyncCheckpointIO CheckpointIO TorchCheckpointIO"
_BORING = """
    BoringDataModule BoringDataModuleNoLen BoringModel DemoModel IterableBoringDataModule
    ManualOptimBoringModel Net RandomDataset RandomDictDataset RandomIterableDataset
    RandomIterableDatasetWithLen
"""
_LSTM = "LightningLSTM SequenceSampler SimpleLSTM WikiText2"
_TRANSFORMER = "LightningTransformer Transformer WikiText2"
_ENVIRONMENTS = """
    ClusterEnvironment KubeflowEnvironment LSFEnvironment LightningEnvironment MPIEnvironment
    SLURMEnvironment TorchElasticEnvironment
"""
_RANK_ZERO = "rank_zero_debug rank_zero_deprecation rank_zero_info rank_zero_only rank_zero_warn"
_SUMMARY = """
    LayerSummary ModelSummary=blixt.trainer.summary:ModelSummary get_formatted_model_size
    get_human_readable_count parse_batch_shape summarize
"""

PYTORCH: dict[str, str] = {
    "": """
        Callback LightningDataModule LightningModule Trainer disable_possible_user_warnings module_available
        seed_everything
    """,
    "accelerators": """
        Accelerator AcceleratorRegistry CPUAccelerator CUDAAccelerator MPSAccelerator find_usable_cuda_devices
    """,
    "accelerators.accelerator": "Accelerator",
    "accelerators.cpu": "CPUAccelerator get_cpu_stats",
    "accelerators.cuda": "CUDAAccelerator get_nvidia_gpu_stats",
    "accelerators.mps": "MPSAccelerator get_device_stats",
    "callbacks": _CALLBACKS,
    "callbacks.batch_size_finder": "BatchSizeFinder",
    "callbacks.callback": "Callback",
    "callbacks.checkpoint": "Checkpoint",
    "callbacks.device_stats_monitor": "DeviceStatsMonitor",
    "callbacks.early_stopping": "EarlyStopping EarlyStoppingReason",
    "callbacks.finetuning": "BackboneFinetuning BaseFinetuning multiplicative",
    "callbacks.gradient_accumulation_scheduler": "GradientAccumulationScheduler",
    "callbacks.lambda_function": "LambdaCallback",
    "callbacks.lr_finder": "LearningRateFinder",
    "callbacks.lr_monitor": "LearningRateMonitor",
    "callbacks.model_checkpoint": "ModelCheckpoint",
    "callbacks.model_summary": "ModelSummary",
    "callbacks.on_exception_checkpoint": "OnExceptionCheckpoint",
    "callbacks.prediction_writer": "BasePredictionWriter WriteInterval",
    "callbacks.progress": "ProgressBar RichProgressBar TQDMProgressBar",
    "callbacks.progress.progress_bar": "ProgressBar get_standard_metrics",
    "callbacks.progress.rich_progress": """
        BatchesProcessedColumn CustomBarColumn CustomTimeColumn ProcessingSpeedColumn RichProgressBar
        RichProgressBarTheme
        """,
    "callbacks.progress.tqdm_progress": "TQDMProgressBar convert_inf",
    "callbacks.pruning": "ModelPruning",
    "callbacks.rich_model_summary": "RichModelSummary",
    "callbacks.spike": "SpikeDetection",
    "callbacks.stochastic_weight_avg": "StochasticWeightAveraging",
    "callbacks.throughput_monitor": "ThroughputMonitor",
    "callbacks.timer": "Interval=blixt.trainer.callbacks.timer:Interval Timer",
    "callbacks.weight_averaging": "EMAWeightAveraging WeightAveraging",
    "cli": """
        ArgsType LRSchedulerCallable LRSchedulerTypeTuple LRSchedulerTypeUnion LightningArgumentParser
        LightningCLI OptimizerCallable ReduceLROnPlateau SaveConfigCallback instantiate_class
        instantiate_module
    """,
    "core": "LightningDataModule LightningModule",
    "core.datamodule": "LightningDataModule",
    "core.hooks": "CheckpointHooks DataHooks ModelHooks",
    "core.mixins": "HyperparametersMixin",
    "core.mixins.hparams_mixin": "HyperparametersMixin",
    "core.module": "LightningModule",
    "core.optimizer": "LightningOptimizer do_nothing_closure",
    "core.saving": """
        convert get_filesystem load_hparams_from_tags_csv load_hparams_from_yaml
        save_hparams_to_tags_csv save_hparams_to_yaml update_hparams
    """,
    "demos": f"{_BORING} {_LSTM} LightningTransformer Transformer",
    "demos.boring_classes": _BORING,
    "demos.lstm": _LSTM,
    "demos.transformer": f"{_TRANSFORMER} Dictionary PositionalEncoding tokenize",
    "loggers": """
        CSVLogger CometLogger Logger MLFlowLogger TensorBoardLogger WandbLogger
    """,
    "loggers.comet": "CometLogger",
    "loggers.csv_logs": "CSVLogger",
    "loggers.logger": "DummyExperiment DummyLogger Logger merge_dicts rank_zero_experiment",
    "loggers.mlflow": "MLFlowLogger",
    "loggers.tensorboard": "TensorBoardLogger",
    "loggers.wandb": "WandbLogger",
    "plugins": f"{_PRECISION} {_IO} {_ENVIRONMENTS} LayerSync TorchSyncBatchNorm",
    "plugins.environments": _ENVIRONMENTS,
    "plugins.io": _IO,
    "plugins.io.async_plugin": "AsyncCheckpointIO",
    "plugins.io.checkpoint_plugin": "CheckpointIO",
    "plugins.io.torch_plugin": "TorchCheckpointIO",
    "plugins.io.wrapper": "_WrappingCheckpointIO",
    "plugins.layer_sync": "LayerSync TorchSyncBatchNorm",
    "plugins.precision": _PRECISION,
    "plugins.precision.amp": "MixedPrecision",
    "plugins.precision.bitsandbytes": "BitsandbytesPrecision",
    "plugins.precision.deepspeed": "DeepSpeedPrecision",
    "plugins.precision.double": "DoublePrecision",
    "plugins.precision.fsdp": "FSDPPrecision",
    "plugins.precision.half": "HalfPrecision",
    "plugins.precision.precision": "Precision",
    "plugins.precision.transformer_engine": "TransformerEnginePrecision",
    "profilers": """
        AdvancedProfiler PassThroughProfiler Profiler PyTorchProfiler SimpleProfiler XLAProfiler
    """,
    "profilers.advanced": "AdvancedProfiler",
    "profilers.base": "PassThroughProfiler",
    "profilers.profiler": "Profiler",
    "profilers.pytorch": "PyTorchProfiler",
    "profilers.simple": "SimpleProfiler",
    "profilers.xla": "XLAProfiler",
    "serve": "ServableModule ServableModuleValidator",
    "serve.servable_module": "ServableModule",
    "serve.servable_module_validator": "ServableModule ServableModuleValidator",
    "strategies": """
        DDPStrategy DeepSpeedStrategy FSDPStrategy ModelParallelStrategy ParallelStrategy SingleDeviceStrategy
        Strategy StrategyRegistry
    """,
    "strategies.ddp": "DDPStrategy",
    "strategies.deepspeed": "DeepSpeedStrategy",
    "strategies.fsdp": "FSDPStrategy",
    "strategies.model_parallel": "ModelParallelStrategy",
    "strategies.parallel": "ParallelStrategy",
    "strategies.single_device": "SingleDeviceStrategy",
    "strategies.strategy": "Strategy TBroadcast TReduce",
    "trainer": "Trainer seed_everything",
    "trainer.states": "RunningStage TrainerFn TrainerState TrainerStatus",
    "trainer.trainer": "Trainer",
    "tuner": "Tuner",
    "tuner.tuning": "Tuner",
    "tuner.lr_finder": "",
    "utilities": f"""
        AttributeDict CombinedLoader GradClipAlgorithmType LightningEnum {_RANK_ZERO}
        disable_possible_user_warnings find_shared_parameters grad_norm is_picklable is_shared_filesystem
        measure_flops move_data_to_device set_shared_parameters suggested_max_num_workers
        FLOAT16_EPSILON FLOAT32_EPSILON FLOAT64_EPSILON
    """,
    "utilities.combined_loader": "CombinedLoader",
    "utilities.compile": "from_compiled to_uncompiled",
    "utilities.consolidate_checkpoint": "",
    "utilities.data": "extract_batch_size has_iterable_dataset has_len_all_ranks sized_len",
    "utilities.enums": "GradClipAlgorithmType LightningEnum",
    "utilities.exceptions": "MisconfigurationException SIGTERMException",
    "utilities.grads": "grad_norm",
    "utilities.imports": """
        _OMEGACONF_AVAILABLE _RICH_AVAILABLE _TORCHMETRICS_GREATER_EQUAL_1_0_0 _TORCHVISION_AVAILABLE
    """,
    "utilities.memory": """
        garbage_collection_cuda is_cuda_out_of_memory is_cudnn_snafu is_oom_error is_out_of_cpu_memory
        recursive_detach
    """,
    "utilities.migration": "migrate_checkpoint",
    "utilities.migration.utils": "migrate_checkpoint",
    "utilities.model_helpers": "get_torchvision_model is_overridden",
    "utilities.model_summary": _SUMMARY,
    "utilities.model_summary.model_summary": _SUMMARY,
    "utilities.parameter_tying": "find_shared_parameters set_shared_parameters",
    "utilities.parsing": """
        AttributeDict clean_namespace collect_init_args get_init_args is_picklable lightning_getattr
        lightning_hasattr lightning_setattr parse_class_init_keys
    """,
    "utilities.rank_zero": f"{_RANK_ZERO} LightningDeprecationWarning WarningCache",
    "utilities.seed": "isolate_rng seed_everything",
    "utilities.signature_utils": "is_param_in_hook_signature",
    "utilities.types": """
        EVAL_DATALOADERS LRSchedulerConfig LRSchedulerConfigType LRSchedulerPLType LRSchedulerTypeTuple
        LRSchedulerTypeUnion OptimizerConfig OptimizerLRScheduler OptimizerLRSchedulerConfig STEP_OUTPUT
        TRAIN_DATALOADERS DistributedDataParallel LRScheduler Optimizable
        ReduceLROnPlateau=torch.optim.lr_scheduler:ReduceLROnPlateau
    """,
    "utilities.upgrade_checkpoint": "",
    "utilities.warnings": "PossibleUserWarning disable_possible_user_warnings",
}
