"""Files as they are: a folder or a bucket of files read as samples, with no build before.

`RawDataset` lists the files once, groups them into samples if asked (an image and its mask, say), and
fetches them concurrently, ahead of use. It is a dataset like the others: an order per epoch, exact resume,
any loader.
"""

from blixt.data.raw.dataset import RawDataset
from blixt.data.raw.group import RawFile, by_suffix
from blixt.data.raw.listing import Listing

__all__ = ["Listing", "RawDataset", "RawFile", "by_suffix"]
