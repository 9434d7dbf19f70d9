"""LitData's names and signatures, made of `blixt.data`.

A script that says `import litdata` runs unchanged when the folder that
`python -m blixt.compat.litdata --path` prints stands first on PYTHONPATH; worker processes find it there,
too. New datasets are written in blixt's format; folders that LitData wrote, MDS and Parquet are read as they
are. What has no counterpart is refused with a sentence that says what to do instead.
"""

from blixt.compat.litdata.core.cache import Cache
from blixt.compat.litdata.core.dataset import StreamingDataset, train_test_split
from blixt.compat.litdata.core.functions import index_parquet_dataset, map, merge_datasets, optimize, walk
from blixt.compat.litdata.core.loader import StreamingDataLoader, litdata_collate
from blixt.compat.litdata.core.loaders import ParquetLoader, TemporalArrayLoader, TokensLoader
from blixt.compat.litdata.core.media import (
    Audio,
    File,
    Graph,
    Image,
    Jpeg,
    JpegArray,
    Mesh,
    Nifti,
    Pdf,
    Pil,
    Tensor,
    Text,
    Tiff,
    Video,
)
from blixt.compat.litdata.core.mixing import CombinedStreamingDataset, ParallelStreamingDataset
from blixt.compat.litdata.core.raw import StreamingRawDataset
from blixt.compat.litdata.core.refuse import UnsupportedArgument
from blixt.compat.litdata.core.updates import (
    dataset_update,
    is_complete_dataset,
    iter_webdataset_tar,
    list_media_folder,
)

__version__ = "0.2.76"
__all__ = [
    "Audio",
    "Cache",
    "CombinedStreamingDataset",
    "File",
    "Graph",
    "Image",
    "Jpeg",
    "JpegArray",
    "Mesh",
    "Nifti",
    "ParallelStreamingDataset",
    "ParquetLoader",
    "Pdf",
    "Pil",
    "StreamingDataLoader",
    "StreamingDataset",
    "StreamingRawDataset",
    "TemporalArrayLoader",
    "Tensor",
    "Text",
    "Tiff",
    "TokensLoader",
    "UnsupportedArgument",
    "Video",
    "dataset_update",
    "index_parquet_dataset",
    "is_complete_dataset",
    "iter_webdataset_tar",
    "list_media_folder",
    "litdata_collate",
    "map",
    "merge_datasets",
    "optimize",
    "train_test_split",
    "walk",
]
