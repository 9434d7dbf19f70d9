"""As in LitData."""

from blixt.compat.litdata.core.loader import litdata_collate as litdata_collate
