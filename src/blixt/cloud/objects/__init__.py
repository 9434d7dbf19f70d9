"""Everything a user sees is an object, and one store serves every kind.

Optimistic concurrency by revision, finalizers, and a change log whose sequence numbers grow in commit order,
so that a watcher who has seen N has seen everything up to N.
"""

from blixt.cloud.objects.object import Change, Object
from blixt.cloud.objects.store import Store
from blixt.cloud.objects.watch import Subscription

__all__ = ["Change", "Object", "Store", "Subscription"]
