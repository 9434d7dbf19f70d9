"""As in LitData."""

from blixt.compat.litdata.core.readers import BaseReader as BaseReader
from blixt.compat.litdata.core.readers import ParquetReader as ParquetReader
