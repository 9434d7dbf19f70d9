"""As in LitData."""

from blixt.compat.litdata.core.updates import build_keys_index as build_keys_index
