"""As in LitData."""

from blixt.compat.litdata.core.debugger import breakpoint as breakpoint
