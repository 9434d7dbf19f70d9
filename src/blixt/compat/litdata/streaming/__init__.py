"""As in LitData."""

from blixt.compat.litdata.core.cache import Cache as Cache
from blixt.compat.litdata.core.dataset import StreamingDataset as StreamingDataset
from blixt.compat.litdata.core.loader import StreamingDataLoader as StreamingDataLoader
from blixt.compat.litdata.core.loaders import TokensLoader as TokensLoader
from blixt.compat.litdata.core.mixing import CombinedStreamingDataset as CombinedStreamingDataset
from blixt.compat.litdata.core.mixing import ParallelStreamingDataset as ParallelStreamingDataset
from blixt.compat.litdata.core.temporal import TemporalArrayLoader as TemporalArrayLoader
