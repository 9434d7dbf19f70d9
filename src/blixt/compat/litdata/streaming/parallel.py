"""As in LitData."""

from blixt.compat.litdata.core.mixing import ParallelStreamingDataset as ParallelStreamingDataset
