"""As in LitData."""

from blixt.compat.litdata.core.raw import BaseIndexer as BaseIndexer
from blixt.compat.litdata.core.raw import FileIndexer as FileIndexer
from blixt.compat.litdata.core.raw import FileMetadata as FileMetadata
