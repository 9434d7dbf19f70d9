"""As in LitData."""

from blixt.compat.litdata.core.mixing import CombinedStreamingDataset as CombinedStreamingDataset
