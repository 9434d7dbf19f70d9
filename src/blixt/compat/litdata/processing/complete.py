"""As in LitData."""

from blixt.compat.litdata.core.complete import complete_dataset as complete_dataset
from blixt.compat.litdata.core.complete import is_complete_dataset as is_complete_dataset
