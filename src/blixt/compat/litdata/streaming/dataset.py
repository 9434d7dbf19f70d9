"""As in LitData."""

from blixt.compat.litdata.core.dataset import StreamingDataset as StreamingDataset
from blixt.compat.litdata.core.places import Dir as Dir
