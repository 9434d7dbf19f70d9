"""As in LitData."""

from blixt.compat.litdata.core.loaders import BaseItemLoader as BaseItemLoader
from blixt.compat.litdata.core.loaders import ParquetLoader as ParquetLoader
from blixt.compat.litdata.core.loaders import PyTreeLoader as PyTreeLoader
from blixt.compat.litdata.core.loaders import TokensLoader as TokensLoader
