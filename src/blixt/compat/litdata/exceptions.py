"""As in LitData."""

from blixt.compat.litdata.core.complete import ChunkWaitTimeoutError as ChunkWaitTimeoutError
