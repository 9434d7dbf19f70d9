"""What work leaves behind: experiments with runs and metrics, models with versions and files, blobs."""

from blixt.cloud.registry.blobs import Blobs
from blixt.cloud.registry.content import ContentStore, Upload
from blixt.cloud.registry.experiments import Experiments, Run
from blixt.cloud.registry.metrics import MetricRow, Series
from blixt.cloud.registry.models import ModelFile, Models, ModelVersion

__all__ = [
    "Blobs",
    "ContentStore",
    "Experiments",
    "MetricRow",
    "ModelFile",
    "ModelVersion",
    "Models",
    "Run",
    "Series",
    "Upload",
]
