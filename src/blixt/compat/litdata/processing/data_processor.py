"""As in LitData."""

from blixt.compat.litdata.core.functions import ALL_DONE as ALL_DONE
