"""As in LitData."""

from blixt.compat.litdata.core.functions import ALL_DONE as ALL_DONE
from blixt.compat.litdata.core.functions import map as map
from blixt.compat.litdata.core.functions import merge_datasets as merge_datasets
from blixt.compat.litdata.core.functions import optimize as optimize
from blixt.compat.litdata.core.functions import walk as walk
