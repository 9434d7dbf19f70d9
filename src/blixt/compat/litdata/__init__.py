"""LitData's names and signatures, made of `blixt.data`.

A script that says `import litdata` runs unchanged when the folder that
`python -m blixt.compat.litdata --path` prints stands first on PYTHONPATH; worker processes find it there,
too. New datasets are written in blixt's format; folders that LitData wrote, MDS and Parquet are read as they
are. What has no counterpart is refused with a sentence that says what to do instead.
"""

from blixt.compat.litdata.core.affinity import NumaAffinity, get_gpu_affinity, get_numa_affinity
from blixt.compat.litdata.core.cache import Cache
from blixt.compat.litdata.core.complete import ChunkWaitTimeoutError, complete_dataset, is_complete_dataset
from blixt.compat.litdata.core.dataset import StreamingDataset, train_test_split
from blixt.compat.litdata.core.debugger import breakpoint
from blixt.compat.litdata.core.functions import index_parquet_dataset, map, merge_datasets, optimize, walk
from blixt.compat.litdata.core.hub import index_hf_dataset, optimize_hf
from blixt.compat.litdata.core.loader import StreamingDataLoader, litdata_collate
from blixt.compat.litdata.core.loaders import ParquetLoader, TokensLoader
from blixt.compat.litdata.core.media import Audio, File, Graph, Mesh, Nifti, Pdf, Tensor, Text, Tiff, Video
from blixt.compat.litdata.core.mixing import CombinedStreamingDataset, ParallelStreamingDataset
from blixt.compat.litdata.core.pictures import Image, Jpeg, JpegArray, Pil
from blixt.compat.litdata.core.raw import StreamingRawDataset
from blixt.compat.litdata.core.refuse import UnsupportedArgument
from blixt.compat.litdata.core.temporal import TemporalArrayLoader
from blixt.compat.litdata.core.updates import (
    build_keys_index,
    dataset_update,
    iter_webdataset_tar,
    list_media_folder,
)

__version__ = "0.2.76"
__all__ = [
    "Audio",
    "Cache",
    "ChunkWaitTimeoutError",
    "CombinedStreamingDataset",
    "File",
    "Graph",
    "Image",
    "Jpeg",
    "JpegArray",
    "Mesh",
    "Nifti",
    "NumaAffinity",
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
    "breakpoint",
    "build_keys_index",
    "complete_dataset",
    "dataset_update",
    "get_gpu_affinity",
    "get_numa_affinity",
    "index_hf_dataset",
    "index_parquet_dataset",
    "is_complete_dataset",
    "iter_webdataset_tar",
    "list_media_folder",
    "litdata_collate",
    "map",
    "merge_datasets",
    "optimize",
    "optimize_hf",
    "train_test_split",
    "walk",
]
