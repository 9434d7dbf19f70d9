"""What can go wrong with a store: every sentence names the address and says what to do."""

from blixt.data.errors import DataError


class StoreError(DataError):
    """Base class of what goes wrong between this process and a store."""


class NotFoundError(StoreError):
    """The store has no such object, bucket or folder."""


class PermissionDeniedError(StoreError):
    """The store refused the credentials, or they may not do this."""


class UnavailableError(StoreError):
    """The store did not give a whole answer, after a bounded number of tries."""


class UnsupportedError(StoreError):
    """This kind of store cannot do this: a web server takes no writes, for example."""


class TruncatedError(StoreError):
    """An object ends before the bytes that were asked for."""
