"""As in LitData."""

from blixt.compat.litdata.core.raw import FileMetadata as FileMetadata
