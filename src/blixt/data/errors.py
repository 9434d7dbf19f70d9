"""What can go wrong with data, as classes whose message says what, where, and what to do next."""


class DataError(Exception):
    """Base class of every error that `blixt.data` raises on purpose."""


class SchemaError(DataError):
    """A sample does not fit the columns of its dataset; the message names the sample and the field."""


class FormatError(DataError):
    """A file is not a shard or snapshot this version can read: wrong magic, version, or it was cut short."""


class CorruptionError(DataError):
    """Stored bytes do not match their checksum; the message names the shard, the block and the byte range."""


class DatasetNotFoundError(DataError):
    """There is no dataset at the path, or a shard that it names is gone."""


class DatasetExistsError(DataError):
    """The output directory already holds a dataset and no mode was chosen."""


class WriteError(DataError):
    """The disk refused a write (full, too large, not permitted); nothing half-made is left."""


class BuildError(DataError):
    """`optimize` could not finish; finished units are kept and the same call goes on from them."""


class LoaderError(DataError):
    """A worker of a `Loader` died, hangs or could not be started; the message names it and its step."""


class DecryptionError(DataError):
    """An encrypted shard, and no key, the wrong key, or a block that was not sealed with it."""


class MissingDependencyError(DataError):
    """A column type needs an optional library that is not installed; the message says what to install."""


class ConflictError(DataError):
    """Another writer published a version meanwhile that this change cannot be laid upon; make it again."""


class KeyNotFoundError(DataError, KeyError):
    """The dataset has no sample of this key, or no keys at all."""

    def __str__(self) -> str:
        return str(self.args[0])
