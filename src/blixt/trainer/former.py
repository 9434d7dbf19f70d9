"""Arguments that Lightning's Trainer had before 2.0, and what to write today."""

from collections.abc import Mapping
from typing import Any

from blixt.fabric import ConfigError, reject_unknown
from blixt.fabric.errors import UnknownArgumentError

FORMER: dict[str, str] = {
    "amp_backend": "precision='16-mixed'",
    "amp_level": "precision='16-mixed'",
    "auto_lr_find": "Tuner(trainer).lr_find(model), or the callback LearningRateFinder",
    "auto_scale_batch_size": "Tuner(trainer).scale_batch_size(model), or the callback BatchSizeFinder",
    "auto_select_gpus": "devices=find_usable_cuda_devices(n)",
    "checkpoint_callback": "enable_checkpointing",
    "distributed_backend": "strategy",
    "flush_logs_every_n_steps": "the logger's own argument",
    "gpus": "accelerator='gpu', devices=n",
    "ipus": "accelerator, devices",
    "log_gpu_memory": "the callback DeviceStatsMonitor",
    "move_metrics_to_cpu": "nothing: metrics leave the device when a row is due",
    "multiple_trainloader_mode": "CombinedLoader(loaders, mode)",
    "num_processes": "accelerator='cpu', devices=n",
    "prepare_data_per_node": "the attribute of the same name of the module or data module",
    "process_position": "the callback TQDMProgressBar(process_position=...)",
    "progress_bar_refresh_rate": "the callback TQDMProgressBar(refresh_rate=...)",
    "reload_dataloaders_every_epoch": "reload_dataloaders_every_n_epochs=1",
    "replace_sampler_ddp": "use_distributed_sampler",
    "resume_from_checkpoint": "fit(model, ckpt_path=...)",
    "stochastic_weight_avg": "the callback StochasticWeightAveraging",
    "suggest_integrations": "nothing: no run here suggests any",
    "terminate_on_nan": "the callback EarlyStopping(check_finite=True)",
    "tpu_cores": "accelerator, devices",
    "track_grad_norm": "self.log_dict(grad_norm(self, 2)) in on_before_optimizer_step",
    "truncated_bptt_steps": "automatic_optimization=False, and the steps by hand",
    "weights_save_path": "the callback ModelCheckpoint(dirpath)",
    "weights_summary": "enable_model_summary, or the callback ModelSummary(max_depth)",
}


def refuse_unknown(unknown: Mapping[str, Any], known: set[str], model_registry: Any) -> None:
    """Name the first argument that the Trainer does not have.

    Args:
        unknown: Keywords that were left over, and their values.
        known: The Trainer's own.
        model_registry: An argument that can only be None.

    Raises:
        ConfigError: Saying what takes its place, or which name comes near it.
    """
    for name in unknown.keys() & FORMER.keys():
        raise UnknownArgumentError(
            f"Trainer({name})", unknown[name], "Lightning's Trainer had it once", f"Use {FORMER[name]}"
        )
    reject_unknown("Trainer", unknown, known)
    if model_registry is not None:
        reason = "the registry belongs to Lightning's cloud"
        raise ConfigError("Trainer(model_registry)", model_registry, reason, "Leave it out")
