"""As in LitData."""

from blixt.compat.litdata.core.hub import index_hf_dataset as index_hf_dataset
from blixt.compat.litdata.core.hub import optimize_hf as optimize_hf
from blixt.compat.litdata.core.hub import resolve_hf_dataset_url as resolve_hf_dataset_url
