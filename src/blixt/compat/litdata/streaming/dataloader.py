"""As in LitData."""

from blixt.compat.litdata.core.loader import StreamingDataLoader as StreamingDataLoader
