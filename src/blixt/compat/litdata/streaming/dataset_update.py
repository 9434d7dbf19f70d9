"""As in LitData."""

from blixt.compat.litdata.core.updates import DatasetUpdate as DatasetUpdate
from blixt.compat.litdata.core.updates import dataset_update as dataset_update
