"""As in LitData."""

from blixt.compat.litdata.core.functions import index_parquet_dataset as index_parquet_dataset
