"""Datasets of other libraries, read in place as datasets of ours, and converted.

Each reader has `len`, `[]`, iteration, shuffle, ranks and state, and works in `Loader`; none needs the
library whose files it reads, except `HuggingFaceDataset`. `open_foreign` chooses the reader by what lies at a
location. Pickles are refused unless asked for.
"""

from blixt.data.foreign.convert import convert
from blixt.data.foreign.detect import FORMATS, detect, open_foreign
from blixt.data.foreign.huggingface import HuggingFaceDataset
from blixt.data.foreign.litdata.dataset import LitDataDataset, LitDataTokens
from blixt.data.foreign.litdata.fernet import fernet
from blixt.data.foreign.mds import MDSDataset
from blixt.data.foreign.parquet import ParquetDataset
from blixt.data.foreign.rows import ForeignDataset
from blixt.data.foreign.webdataset import WebDataset

__all__ = [
    "FORMATS",
    "ForeignDataset",
    "HuggingFaceDataset",
    "LitDataDataset",
    "LitDataTokens",
    "MDSDataset",
    "ParquetDataset",
    "WebDataset",
    "convert",
    "detect",
    "fernet",
    "open_foreign",
]
