"""As in LitData."""

from blixt.compat.litdata.core.downloaders import Downloader as Downloader
from blixt.compat.litdata.core.downloaders import register_downloader as register_downloader
from blixt.compat.litdata.core.downloaders import unregister_downloader as unregister_downloader
