"""Several datasets as one: `Mix` takes turns by weight, `Zip` reads side by side. Both seek in O(1)."""

from blixt.data.mix.mix import Mix
from blixt.data.mix.plan import Stop
from blixt.data.mix.zip import Zip

__all__ = ["Mix", "Stop", "Zip"]
