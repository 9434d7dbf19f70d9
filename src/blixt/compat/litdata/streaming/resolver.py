"""As in LitData."""

from blixt.compat.litdata.core.places import Dir as Dir
