"""The cache: fetched once on a machine, within its limit, right whatever dies; shown with real processes."""

import multiprocessing
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from blixt.data.cache import Cache, CacheError, default_folder, open_cache
from blixt.data.cache_file import GRANULE, CacheFile
from blixt.data.fetch import fetcher
from blixt.data.remote import Origin, RemoteFile
from blixt.data.store import NotFoundError, Store, StoreError, open_store

from .servers.faulty import FaultyProxy
from .servers.web import WebServer

MIB = 1 << 20
SPAWN = multiprocessing.get_context("forkserver")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Eight files of 1 MiB, each different."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in range(8):
        (folder / str(name)).write_bytes(random.Random(name).randbytes(MIB))
    return folder


@pytest.fixture
def proxy(files: Path, faulty: Callable[[str], FaultyProxy]) -> Iterator[FaultyProxy]:
    """A web server of the files, behind a proxy that counts and misbehaves."""
    with WebServer(files) as server:
        yield faulty(server.address)


@pytest.fixture
def store(proxy: FaultyProxy) -> Store:
    return open_store(proxy.endpoint)


def remote(store: Store, cache: Cache, name: str = "0", **options: Any) -> RemoteFile:
    return RemoteFile(Origin(store, name, MIB, f"dataset/{name}"), cache, **options)


def content(name: str = "0") -> bytes:
    return random.Random(int(name)).randbytes(MIB)


class TestFetching:
    def test_only_what_is_asked_for_is_fetched_and_only_once(
        self, store: Store, proxy: FaultyProxy, cache_dir: Path
    ) -> None:
        file = remote(store, Cache(cache_dir))
        file.ensure([(100, 200)])
        file.ensure([(50, 300), (GRANULE - 1, GRANULE)])
        assert file.view[50:300] == content()[50:300]
        assert [request.range for request in proxy.gets()] == [(0, GRANULE)]

    def test_ranges_that_lie_close_together_come_in_one_request(
        self, store: Store, proxy: FaultyProxy, cache_dir: Path
    ) -> None:
        file = remote(store, Cache(cache_dir))
        file.ensure([(0, 10), (3 * GRANULE, 3 * GRANULE + 10)])
        assert [request.range for request in proxy.gets()] == [(0, 4 * GRANULE)]

    def test_a_whole_file_is_local_from_then_on(self, store: Store, cache_dir: Path) -> None:
        file = remote(store, Cache(cache_dir))
        assert not file.is_local
        file.ensure([(0, MIB)])
        assert file.is_local
        assert file.view == content()

    def test_look_ahead_returns_at_once_and_spares_the_later_read_a_request(
        self, store: Store, proxy: FaultyProxy, cache_dir: Path
    ) -> None:
        file = remote(store, Cache(cache_dir))
        file.prefetch([(0, MIB)])
        file.ensure([(0, MIB)])
        assert file.view == content()
        assert len(proxy.gets()) == 1

    def test_many_threads_that_need_the_same_bytes_share_one_request(
        self, store: Store, proxy: FaultyProxy, cache_dir: Path
    ) -> None:
        file = remote(store, Cache(cache_dir))
        threads = [threading.Thread(target=file.ensure, args=([(0, MIB)],)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert file.view == content()
        assert len(proxy.gets()) == 1

    def test_a_problem_reaches_everybody_who_waits_and_is_forgotten_afterwards(
        self, proxy: FaultyProxy, cache_dir: Path
    ) -> None:
        store = open_store(proxy.endpoint, options={"tries": "1"})
        file = remote(store, Cache(cache_dir))
        proxy.faults.append("503")
        with pytest.raises(StoreError, match="tried 1 times"):
            file.ensure([(0, MIB)])
        file.ensure([(0, MIB)])
        assert file.view == content()

    def test_a_missing_file_is_named(self, store: Store, cache_dir: Path) -> None:
        with pytest.raises(NotFoundError, match="/absent"):
            remote(store, Cache(cache_dir), "absent").ensure([(0, 1)])

    def test_a_hedged_read_asks_again_when_the_first_answer_is_late(
        self, store: Store, proxy: FaultyProxy, cache_dir: Path
    ) -> None:
        cache = Cache(cache_dir)
        for name in range(1, 8):
            for part in range(0, 16, 6):
                remote(store, cache, str(name)).ensure([(part * GRANULE, part * GRANULE + 1)])
        assert fetcher().slow_after_s() is not None
        proxy.faults.append("stall")
        file = remote(store, cache, hedge=True)
        file.ensure([(0, MIB)])
        assert file.view == content()
        assert len(proxy.gets("/0")) == 2

    def test_bytes_in_flight_are_bounded(self, store: Store, proxy: FaultyProxy, cache_dir: Path) -> None:
        from blixt.data.fetch import Fetcher, Job

        pool, running, most = Fetcher(threads=8, limit_bytes=3 * MIB), [0], [0]
        lock, go = threading.Lock(), threading.Event()

        def work() -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            go.wait(60)
            with lock:
                running[0] -= 1

        jobs = [pool.submit(Job(MIB, work), 0) for _ in range(12)]
        _wait_until(lambda: running[0] == 3)
        go.set()
        assert all(job.wait(60) for job in jobs)
        assert most[0] == 3

    def test_what_somebody_waits_for_goes_before_look_ahead(self) -> None:
        from blixt.data.fetch import NOW, Fetcher, Job

        pool, order, busy = Fetcher(threads=1), [], threading.Event()
        first = pool.submit(Job(1, lambda: busy.wait(60)), 0)
        _wait_until(lambda: first.started)
        jobs = [pool.submit(Job(1, lambda name=name: order.append(name)), name) for name in (2, 1)]
        jobs.append(pool.submit(Job(1, lambda: order.append("now")), NOW))
        busy.set()
        assert all(job.wait(60) for job in jobs)
        assert order == ["now", 1, 2]


class TestSharing:
    def test_a_second_job_finds_what_the_first_fetched(
        self, store: Store, proxy: FaultyProxy, cache_dir: Path
    ) -> None:
        with _process(_read_all, store, cache_dir, ["0"]) as first:
            assert _ended(first) == 0
        asked = len(proxy.gets())
        with _process(_read_all, store, cache_dir, ["0"]) as second:
            assert _ended(second) == 0
        assert len(proxy.gets()) == asked == 1

    def test_two_jobs_at_once_read_everything_right_and_fetch_nothing_twice(
        self, store: Store, proxy: FaultyProxy, cache_dir: Path
    ) -> None:
        names = [str(name) for name in range(8)]
        with (
            _process(_read_all, store, cache_dir, names) as one,
            _process(_read_all, store, cache_dir, names[::-1]) as other,
        ):
            assert (_ended(one), _ended(other)) == (0, 0)
        assert sorted(request.path for request in proxy.gets()) == [f"/{name}" for name in names]

    def test_a_file_made_by_one_user_may_be_used_by_whoever_may_use_the_folder(
        self, store: Store, cache_dir: Path
    ) -> None:
        cache_dir.mkdir()
        cache_dir.chmod(0o775)
        os.umask(old := os.umask(0o077))
        try:
            remote(store, Cache(cache_dir)).ensure([(0, 1)])
        finally:
            os.umask(old)
        mode = (cache_dir / "dataset" / "0").stat().st_mode
        assert stat.S_IMODE(mode) == 0o664
        assert stat.S_IMODE((cache_dir / "dataset").stat().st_mode) == 0o775


class TestDeath:
    def test_a_process_killed_while_it_fetches_leaves_the_work_to_the_next(
        self, store: Store, proxy: FaultyProxy, cache_dir: Path
    ) -> None:
        proxy.faults.append("stall")
        with _process(_read_all, store, cache_dir, ["0"]) as victim:
            _wait_until(lambda: len(proxy.requests) == 1)
            _wait_until(lambda: _is_being_fetched(cache_dir / "dataset" / "0"))
            victim.kill()
            file = remote(store, Cache(cache_dir))
            file.ensure([(0, MIB)])
            assert file.view == content()

    def test_a_process_that_is_only_stopped_is_waited_for_a_while_and_then_not(
        self, store: Store, proxy: FaultyProxy, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("blixt.data.remote._OTHERS_WAIT_S", 0.3)
        proxy.faults.append("stall")
        with _process(_read_all, store, cache_dir, ["0"]) as stopped:
            _wait_until(lambda: len(proxy.requests) == 1)
            _wait_until(lambda: _is_being_fetched(cache_dir / "dataset" / "0"))
            os.kill(stopped.pid or 0, signal.SIGSTOP)
            file = remote(store, Cache(cache_dir))
            file.ensure([(0, MIB)])
            assert file.view == content()

    def test_readers_killed_at_random_leave_no_wrong_byte_and_no_lock(
        self, store: Store, cache_dir: Path
    ) -> None:
        dice = random.Random(7)
        names = [str(name) for name in range(8)]
        for _ in range(6):
            with _process(_read_for_ever, store, cache_dir, names) as victim:
                time.sleep(dice.uniform(0.1, 0.6))
                victim.kill()
        cache = Cache(cache_dir)
        for name in names:
            file = remote(store, cache, name)
            file.ensure([(0, MIB)])
            assert file.view == content(name)
        del file
        assert cache.clear()[1] == 0


class TestLimit:
    def test_the_files_used_longest_ago_go_first(self, store: Store, cache_dir: Path) -> None:
        cache = Cache(cache_dir, 4 * MIB)
        for name in ("0", "1", "2"):
            remote(store, cache, name).ensure([(0, MIB)])
            os.utime(cache_dir / "dataset" / name, (int(name), int(name)))
        os.utime(cache_dir / "dataset" / "0")
        for name in ("3", "4"):
            remote(store, cache, name).ensure([(0, MIB)])
        assert sorted(path.name for path in (cache_dir / "dataset").iterdir()) == ["0", "3", "4"]

    def test_what_another_process_reads_stays(self, store: Store, cache_dir: Path) -> None:
        ready = SPAWN.Event()
        with _process(_hold, store, cache_dir, "0", ready):
            assert ready.wait(60)
            cache = Cache(cache_dir, 1)
            for name in ("1", "2", "3"):
                remote(store, cache, name).ensure([(0, MIB)])
            assert "dataset/0" in [entry.name for entry in cache.entries()]

    @pytest.mark.parametrize("limit_bytes", [1, GRANULE, 2 * MIB])
    def test_a_cache_smaller_than_what_is_read_still_reads_right(
        self, store: Store, cache_dir: Path, limit_bytes: int
    ) -> None:
        cache = Cache(cache_dir, limit_bytes)
        dice = random.Random(3)
        opened: dict[str, RemoteFile] = {}
        for _ in range(120):
            name = str(dice.randrange(8))
            if name not in opened or opened[name].retired:
                opened[name] = remote(store, cache, name)
            start = dice.randrange(MIB)
            end = min(MIB, start + dice.randrange(3 * GRANULE))
            opened[name].ensure([(start, end)])
            assert opened[name].view[start:end] == content(name)[start:end]
        assert cache.size() <= limit_bytes + 4 * MIB

    def test_views_stay_readable_after_their_file_was_evicted(self, store: Store, cache_dir: Path) -> None:
        cache = Cache(cache_dir, 1)
        file = remote(store, cache)
        file.ensure([(0, MIB)])
        view = file.view
        for name in ("1", "2"):
            remote(store, cache, name).ensure([(0, MIB)])
        assert not (cache_dir / "dataset" / "0").exists()
        assert view == content()

    def test_a_retired_file_still_gives_what_is_asked_of_it(self, store: Store, cache_dir: Path) -> None:
        file = remote(store, Cache(cache_dir))
        file.ensure([(0, 1)])
        file.discard()
        assert file.retired
        file.ensure([(0, MIB)])
        assert file.view == content()

    def test_clearing_removes_all_but_what_is_in_use(self, store: Store, cache_dir: Path) -> None:
        cache = Cache(cache_dir)
        remote(store, cache, "1").ensure([(0, MIB)])
        file = remote(store, cache)
        file.ensure([(0, 1)])
        assert {entry.name: entry.stored_bytes for entry in cache.entries()} == {
            "dataset/0": GRANULE,
            "dataset/1": MIB,
        }
        freed, kept = cache.clear()
        assert freed >= MIB > kept > 0
        del file
        assert cache.clear()[1] == 0
        assert list(cache_dir.iterdir()) == []


class TestDisk:
    def test_a_full_disk_gives_up_what_nobody_uses_and_goes_on(self, store: Store, cache_dir: Path) -> None:
        assert _on_a_small_disk(store, cache_dir, "4m", ["0", "1", "2", "3", "4", "5"]) == "right"

    def test_a_disk_without_room_for_what_is_needed_is_an_error_that_says_so(
        self, store: Store, cache_dir: Path
    ) -> None:
        said = _on_a_small_disk(store, cache_dir, "256k", ["0"])
        assert "CacheError: cannot store in the cache" in said
        assert "No space left on device; make room" in said

    def test_a_limit_on_file_sizes_is_an_error_that_says_so(self, store: Store, cache_dir: Path) -> None:
        with _process(_read_with_small_files, store, cache_dir) as reader:
            assert _ended(reader) == 0

    def test_a_folder_that_cannot_be_used_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(CacheError, match="file/cache: Not a directory; choose another"):
            Cache(tmp_path / "file" / "cache")

    def test_a_filesystem_without_locks_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("blixt.data.cache.fcntl.flock", lambda *_: None)
        with pytest.raises(CacheError, match="has no working locks"):
            Cache(tmp_path)

    def test_machines_that_share_a_network_disk_get_a_folder_each(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device = tmp_path.stat().st_dev
        line = f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw - nfs4 server:/x rw"
        monkeypatch.setattr("blixt.data.cache._MOUNTS", tmp_path / "mountinfo")
        (tmp_path / "mountinfo").write_text(line)
        assert Cache(tmp_path / "cache").folder.name.startswith("host-")

    def test_a_file_of_another_make_is_replaced_by_a_new_one(self, store: Store, cache_dir: Path) -> None:
        (cache_dir / "dataset").mkdir(parents=True)
        (cache_dir / "dataset" / "0").write_bytes(b"something else")
        file = remote(store, Cache(cache_dir))
        file.ensure([(0, MIB)])
        assert file.view == content()


def test_the_folder_is_an_argument_then_a_variable_then_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BLIXT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "blixt" / "data"
    monkeypatch.setenv("BLIXT_CACHE", str(tmp_path / "mine"))
    assert open_cache().folder == tmp_path / "mine"
    assert open_cache(tmp_path / "given", "1GB").limit_bytes == 10**9


def test_a_limit_that_is_no_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        open_cache(tmp_path, "much")


def _read_all(store: Store, cache_dir: Path, names: list[str]) -> None:
    cache = Cache(cache_dir)
    for name in names:
        file = remote(store, cache, name)
        file.ensure([(0, MIB)])
        assert file.view == content(name)


def _read_for_ever(store: Store, cache_dir: Path, names: list[str]) -> None:
    dice = random.Random()
    cache = Cache(cache_dir)
    while True:
        start = dice.randrange(MIB)
        remote(store, cache, dice.choice(names)).ensure([(start, min(MIB, start + GRANULE))])


def _hold(store: Store, cache_dir: Path, name: str, ready: Any) -> None:
    file = remote(store, Cache(cache_dir), name)
    file.ensure([(0, MIB)])
    ready.set()
    signal.pause()


def _read_with_small_files(store: Store, cache_dir: Path) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (GRANULE, GRANULE))
    with pytest.raises(CacheError, match="File too large; make room"):
        remote(store, Cache(cache_dir)).ensure([(0, MIB)])


def _on_a_small_disk(store: Store, cache_dir: Path, size: str, names: list[str]) -> str:
    """Read files through a cache on a filesystem of this size; return "right", or what went wrong."""
    cache_dir.mkdir()
    script = (
        "from pathlib import Path\nfrom data.test_cache import _read_all\n"
        "from blixt.data.store import open_store\n"
        f"_read_all(open_store({store.location!r}), Path({str(cache_dir)!r}), {names!r}); print('right')"
    )
    inside = f'mount -t tmpfs -o size={size} none {cache_dir} && exec {sys.executable} -c "$0"'
    run = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, script],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if "unshare: " in run.stderr or "mount: " in run.stderr:
        pytest.skip(f"this machine lets nobody mount a small disk: {run.stderr.strip()}")
    return (run.stdout + run.stderr).strip()


@contextmanager
def _process(function: Callable[..., None], *arguments: Any) -> Iterator[BaseProcess]:
    """Run a function in another process, which does not outlive the block."""
    process = SPAWN.Process(target=function, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _ended(process: BaseProcess) -> int | None:
    process.join(60)
    return process.exitcode


def _is_being_fetched(path: Path) -> bool:
    """Whether another process holds the lock of the file's first granule."""
    if not path.exists():
        return False
    with CacheFile(path, MIB).fetching(0, 1) as free:
        return not free


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not happen in 60 s"
        time.sleep(0.005)
