"""As in LitData."""

from blixt.compat.litdata.core.temporal import TemporalArrayLoader as TemporalArrayLoader
