"""LitData's name for `blixt.compat.litdata`; its modules are the ones there."""

from blixt.compat import litdata as _litdata
from blixt.compat.litdata import *  # noqa: F403
from blixt.compat.litdata import __all__ as __all__
from blixt.compat.litdata import __version__ as __version__

__path__ = _litdata.__path__
