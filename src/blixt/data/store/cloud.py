"""Buckets of S3 and what speaks it, Google and Azure, through obstore."""

import copy
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from blixt.data.store.base import Store, Take
from blixt.data.store.credentials import Credentials, Rolling
from blixt.data.store.errors import (
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    TruncatedError,
    UnsupportedError,
)
from blixt.data.store.retry import Passing
from blixt.data.store.vendors import Options, connect

T = TypeVar("T")
_ARRIVAL_BYTES = 64 << 10
"""What arrives is handed on in parts of about this size: they still lie in the processor's cache."""
_PART_BYTES = 16 << 20
_PARTS_AT_ONCE = 4
_LIST_PAGE = 1000


class CloudStore(Store):
    """The objects of a bucket below a prefix.

    Args:
        location: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
        credentials: see `blixt.data.store.Credentials`.
        options: see `open_store`.
    """

    def __init__(self, location: str, credentials: Credentials, options: Mapping[str, str]) -> None:
        parts = urlsplit(location)
        if not parts.netloc:
            raise StoreError(f"{location} names no bucket; write {parts.scheme}://bucket/folder")
        self.location = location.rstrip("/")
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._prefix = parts.path.strip("/")
        self._options = Options.read(options)
        self._connection = _Connection(self._root, credentials, self._options)

    def read(self, path: str, start: int, end: int) -> memoryview:
        """Return the bytes `[start, end)` of an object, as a view of what arrived."""
        if start >= end:
            return memoryview(b"")

        def once(attempt: int) -> memoryview:
            data = memoryview(
                self._do("read", path, lambda o, s, key: o.get_range(s, key, start=start, end=end))
            )
            if len(data) != end - start:
                self._complain_if_short(path, start, end)
                raise Passing(f"only {len(data)} of {end - start} bytes arrived")
            return data

        return self._options.retry.call(f"read bytes {start} to {end} of {self.url(path)}", once)

    def read_to(self, path: str, start: int, end: int, take: Take) -> None:
        """Give the bytes `[start, end)` to `take` while they arrive; another try goes on where one broke."""
        if end - start <= _ARRIVAL_BYTES:
            take(start, self.read(path, start, end))
            return
        at = start

        def once(attempt: int) -> None:
            nonlocal at
            parts = self._do("read", path, lambda o, s, key: _parts(o, s, key, at, end))
            while (part := self._do("read", path, lambda o, s, key: next(parts, None))) is not None:
                data = memoryview(part)
                if at + len(data) > end:
                    raise Passing("more bytes arrived than were asked for")
                take(at, data)
                at += len(data)
            if at < end:
                self._complain_if_short(path, start, end)
                raise Passing(f"only {at - start} of {end - start} bytes arrived")

        self._options.retry.call(f"read bytes {start} to {end} of {self.url(path)}", once)

    def get(self, path: str) -> bytes:
        """Return a whole object."""
        return self._try("read", path, lambda o, s, key: bytes(_whole(o.get(s, key))))

    def get_tail(self, path: str, size: int) -> tuple[bytes, int]:
        """Return the last bytes of an object, and its size."""
        if self._root.startswith("az:"):  # which knows no ranges counted from the end
            total = self.size(path)
            if total is None:
                raise NotFoundError(f"{self.url(path)} is not there; check the address")
            return self.get_range(path, max(0, total - size), total), total

        def tail(o: Any, s: Any, key: str) -> tuple[bytes, int]:
            result = o.get(s, key, options={"range": {"suffix": size}})
            return bytes(_whole(result)), int(result.meta["size"])

        return self._try("read", path, tail)

    def size(self, path: str) -> int | None:
        """Return an object's size in bytes, None when it is not there."""
        try:
            return int(self._try("look at", path, lambda o, s, key: o.head(s, key))["size"])
        except NotFoundError:
            return None

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size of every object below the folder `prefix`, page by page."""
        after: str | None = None
        while page := self._page(prefix, after):
            for key, size in page:
                yield key[len(self._prefix) + 1 :] if self._prefix else key, size
            after = page[-1][0]
            if len(page) < _LIST_PAGE:
                return

    def sub(self, prefix: str) -> "CloudStore":
        """Return the store of the objects below a folder; it shares this one's connection."""
        below = copy.copy(self)
        below._prefix = "/".join(part for part in (self._prefix, prefix.strip("/")) if part)
        below.location = f"{self._root}/{below._prefix}"
        return below

    def put(self, path: str, data: bytes) -> None:
        """Write an object in one request."""
        self._try("write", path, lambda o, s, key: o.put(s, key, data, use_multipart=False))

    def put_file(self, path: str, local: Path) -> None:
        """Write an object from a file, in parts of 16 MiB, four at once; it appears when all have arrived."""
        large = local.stat().st_size > _PART_BYTES

        def upload(o: Any, s: Any, key: str) -> None:
            o.put(s, key, local, use_multipart=large, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

        self._try("write", path, upload, patient=True)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one by that path (`If-None-Match: *`).

        When an answer was lost, the object that is there now tells whether it was this call that wrote it:
        give `data` something unique, such as a random id.

        Raises:
            UnsupportedError: when the store ignores the condition; found out once, with a small object that
                is deleted again. With `options={"exclusive": "false"}` it looks and then writes, which is
                safe for a single writer only.
        """
        if not self._options.exclusive:
            if self.size(path) is not None:
                return False
            self.put(path, data)
            return True
        self._connection.need_exclusive(self)
        return self.create(path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write an object with `If-None-Match: *`, trusting the store to know what that means."""

        def once(attempt: int) -> bool:
            try:
                self._do(
                    "write", path, lambda o, s, key: o.put(s, key, data, mode="create", use_multipart=False)
                )
            except FileExistsError:
                return attempt > 0 and self.get(path) == data
            return True

        return self._options.retry.call(f"write {self.url(path)}", once)

    def delete(self, path: str) -> None:
        """Delete an object; one that is not there is no error."""
        try:
            self._try("delete", path, lambda o, s, key: o.delete(s, key))
        except NotFoundError:
            pass

    def _page(self, prefix: str, after: str | None) -> "list[tuple[str, int]]":
        below = "/".join(part for part in (self._prefix, prefix.strip("/")) if part)

        def page(o: Any, s: Any, key: str) -> "list[tuple[str, int]]":
            pages: Iterator[Any] = iter(o.list(s, below or None, offset=after, chunk_size=_LIST_PAGE))
            return [(str(meta["path"]), int(meta["size"])) for meta in next(pages, ())]

        return self._try("list", prefix, page)

    def _complain_if_short(self, path: str, start: int, end: int) -> None:
        total = self.size(path)
        if total is None:
            raise NotFoundError(f"{self.url(path)} is not there any more")
        if total < end:
            raise TruncatedError(
                f"{self.url(path)} has {total} bytes, too few for bytes {start} to {end}; restore it from a "
                "copy"
            )

    def _try(self, verb: str, path: str, do: Callable[[Any, Any, str], T], *, patient: bool = False) -> T:
        return self._options.retry.call(
            f"{verb} {self.url(path)}", lambda attempt: self._do(verb, path, do, patient=patient)
        )

    def _do(self, verb: str, path: str, do: Callable[[Any, Any, str], T], *, patient: bool = False) -> T:
        """Do one thing once, and translate what obstore raises."""
        obstore, client = self._connection.client(patient)
        key = f"{self._prefix}/{path}" if self._prefix else path
        errors = obstore.exceptions
        try:
            return do(obstore, client, key)
        except FileNotFoundError:
            raise NotFoundError(f"{self.url(path)} is not there; check the address") from None
        except errors.AlreadyExistsError as problem:
            raise FileExistsError(path) from problem
        except errors.PreconditionError as problem:
            raise FileExistsError(path) from problem
        except (errors.PermissionDeniedError, errors.UnauthenticatedError) as problem:
            raise PermissionDeniedError(
                f"may not {verb} {self.url(path)}: the store refused the credentials; check them, and that "
                f"they may read or write there ({_first_line(problem)})"
            ) from problem
        except (errors.NotSupportedError, errors.UnknownConfigurationKeyError) as problem:
            raise UnsupportedError(f"cannot {verb} {self.url(path)}: {_first_line(problem)}") from problem
        except (errors.BaseError, OSError) as problem:
            if "416 Range Not Satisfiable" in str(problem):
                raise TruncatedError(
                    f"{self.url(path)} ends before the bytes asked for; restore it from a copy"
                ) from problem
            raise Passing(_first_line(problem)) from problem


class _Connection:
    """The clients of a bucket, made when first needed, in the process that needs them."""

    def __init__(self, root: str, credentials: Credentials | Rolling, options: Options) -> None:
        self._parameters = root, credentials, options
        self._rolling = Rolling(credentials) if callable(credentials) else None
        self._clients: dict[bool, Any] = {}
        self._exclusive = False
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"parameters": self._parameters}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state["parameters"])

    def client(self, patient: bool) -> tuple[Any, Any]:
        """Return obstore and a client that is good in this process.

        Raises:
            StoreError: in a process that was forked from one that used obstore.
        """
        obstore = _obstore()
        if self._rolling is not None:
            self._rolling.get()  # renew here, where a failing callback can be explained
        client = self._clients.get(patient)
        if client is None:
            with self._lock:
                root, credentials, options = self._parameters
                scheme, _, bucket = root.partition("://")
                client = connect(scheme, bucket, self._rolling or credentials, options, patient=patient)
                self._clients[patient] = client
        return obstore, client

    def need_exclusive(self, store: CloudStore) -> None:
        """Make sure, once, that of two writers of an object the second is refused."""
        if self._exclusive:
            return
        probe = f".blixt-probe-{uuid4().hex}"
        try:
            created = [store.create(probe, side) for side in (b"first", b"second")]
        finally:
            with suppress(StoreError):
                store.delete(probe)
        if created != [True, False]:
            raise UnsupportedError(
                f"{store.location} ignores If-None-Match, so two writers could overwrite each other's "
                "version; let one process publish and pass options={'exclusive': 'false'}, or use another "
                "store"
            )
        self._exclusive = True


def _obstore() -> Any:
    """Import obstore, and refuse it where a fork has left its threads behind."""
    try:
        import obstore
    except ImportError:
        raise StoreError("s3://, gs:// and az:// need obstore; run: pip install obstore") from None
    if _runtime.forked:
        raise StoreError(
            "this process was forked from one that had used a remote store, whose network threads a fork "
            "leaves behind; start workers with the method 'forkserver' or 'spawn' (for torch's DataLoader: "
            "multiprocessing_context='forkserver')"
        )
    _runtime.used = True
    return obstore


class _Runtime:
    """Whether obstore's threads run in this process, or stayed behind in the one it was forked from."""

    used = False
    forked = False

    def after_fork(self) -> None:
        self.forked = self.forked or self.used


_runtime = _Runtime()
os.register_at_fork(after_in_child=_runtime.after_fork)


def _parts(obstore: Any, client: Any, key: str, start: int, end: int) -> Iterator[Any]:
    """Ask for a range, and return what arrives of it."""
    result = obstore.get(client, key, options={"range": (start, end)})
    if result.range[0] != start:
        raise Passing("the answer is another range")
    return iter(result.stream(min_chunk_size=_ARRIVAL_BYTES))


def _whole(result: Any) -> Any:
    data = memoryview(result.bytes())
    if len(data) != result.range[1] - result.range[0]:
        raise Passing("the answer was cut short")
    return data


def _first_line(problem: BaseException) -> str:
    return str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
