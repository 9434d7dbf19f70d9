"""As in LitData."""

from blixt.compat.litdata.core.cache import Cache as Cache
from blixt.compat.litdata.core.places import Dir as Dir
