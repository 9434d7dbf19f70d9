"""As in LitData."""

from blixt.compat.litdata.core.updates import iter_webdataset_tar as iter_webdataset_tar
from blixt.compat.litdata.core.updates import list_media_folder as list_media_folder
