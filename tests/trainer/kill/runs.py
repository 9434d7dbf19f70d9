"""A small process that trains in forked children, so that hundreds of runs cost one start of Python.

It reads a job a line from its input, as JSON, and answers each with how the child ended.
"""

import ctypes
import faulthandler
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed.checkpoint
from torch.utils.data import DataLoader, Dataset

from blixt.fabric import agree
from blixt.fabric.launch import launch_function
from blixt.fabric.strategies import FSDPStrategy
from blixt.trainer import Callback, ModelCheckpoint, Module, Trainer, seed_everything

STEPS, BATCHES, VAL_BATCHES, VAL_EVERY, SAVE_EVERY = 20, 10, 3, 5, 2
_RUN_DEADLINE_S = 240  # a run of 20 steps takes 2 s; on a machine that others keep busy it may take long
_SAY_WITHIN_S = 5
_HEARD_WITHIN_S = 60
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Kill:
    """Where and how a run ends before its time.

    Attributes:
        at: "batch" (after the step, before its checkpoint), "validation" (in a validation batch), or of a
            checkpoint "torn" (while its bytes are written), "unnamed" (written, not renamed yet), "named"
            (just renamed); of one in shards also "shard" (this rank's is written) and "index" (all are).
        number: Which one, counted from 1.
        signal: SIGKILL or SIGTERM.
        rank: Who.
        all: Whether the other ranks are struck at the same time.
    """

    at: str
    number: int
    signal: int = signal.SIGKILL
    rank: int = 0
    all: bool = False


@dataclass(frozen=True)
class Job:
    """One attempt at a run in a folder, which goes on from what an earlier one left there.

    Attributes:
        sharded: Each rank has its part of the weights, and writes it.
    """

    folder: str
    ranks: int
    workers: int
    kill: Kill | None = None
    sharded: bool = False

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Job":
        """From JSON."""
        kill = values.pop("kill")
        return cls(**values, kill=Kill(**kill) if kill else None)


class Noisy(Dataset[Any]):
    """Samples with noise, so that loader workers need the right random numbers as well."""

    def __len__(self) -> int:
        return 2 * BATCHES * 2

    def __getitem__(self, index: int) -> Any:
        x = torch.arange(8.0) * (index % 7) / 8 + torch.rand(8)
        return x, torch.tensor(index % 2)


class Net(Module):
    """Dropout, momentum and a schedule: whatever is not restored changes the weights."""

    def __init__(self, kill: "Killer") -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(8, 8), torch.nn.Dropout(0.2), torch.nn.ReLU(), torch.nn.Linear(8, 2)
        )
        self.kill = kill

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.kill.count("validation")
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("val_loss", loss, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Killer(Callback):
    """Counts what happens in this attempt and strikes at its number."""

    def __init__(self, kill: Kill | None, rank: int, folder: Path) -> None:
        self._kill = kill
        self._pids = folder / "pids"
        self._mine = kill is not None and kill.rank == rank
        self._counts: dict[str, int] = {}
        self._struck = False

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """After each step."""
        self._let_it_be_heard(trainer)
        self.count("batch", trainer.global_step)

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        """After each batch of a validation."""
        self._let_it_be_heard(trainer)

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        """When a run is over, or leaves early."""
        where = {"steps": trainer.global_step, "validation": self._counts.get("validation", 0)}
        (Path(trainer.default_root_dir) / f"left{trainer.global_rank}.json").write_text(json.dumps(where))

    def on_save_checkpoint(self, trainer: Any, *_: Any) -> None:
        """Before each checkpoint is written."""
        if self.reached("torn"):
            # The kernel kills whoever writes beyond: a torn file, as a full disk or a power cut leaves it.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))

    def count(self, at: str, number: int | None = None) -> None:
        """Strike if this is it."""
        if self.reached(at, number):
            assert self._kill is not None
            self._struck = True
            if self._kill.all:
                for pid in self._pids.glob("*"):
                    if int(pid.name) != os.getpid():
                        os.kill(int(pid.name), self._kill.signal)
            os.kill(os.getpid(), self._kill.signal)

    def introduce(self) -> None:
        """Let the other ranks know this process."""
        self._pids.mkdir(parents=True, exist_ok=True)
        (self._pids / str(os.getpid())).touch()

    def reached(self, at: str, number: int | None = None) -> bool:
        """Whether this is it."""
        self._counts[at] = self._counts.get(at, 0) + 1 if number is None else number
        here = self._mine and self._kill is not None and self._kill.at == at
        return here and self._counts[at] == self._kill.number  # type: ignore[union-attr]

    def _let_it_be_heard(self, trainer: Any) -> None:
        """Whoever was told to go says where it will stop: with a real model the next step leaves the time."""
        if not self._struck:
            return
        stop, deadline = trainer._run.stop, time.monotonic() + _HEARD_WITHIN_S
        while stop._store is not None and stop._limit == float("inf") and time.monotonic() < deadline:
            time.sleep(0.005)

    def watch_files(self) -> None:
        """Strike between the shards, the index and the last byte of a checkpoint, or when it has its name."""
        os.replace = self._watched(os.replace, "unnamed", "named")  # a process of its own, so it may
        os.rename = self._watched(os.rename, "unnamed", "named")
        writer: Any = torch.distributed.checkpoint.FileSystemWriter
        writer.write_data = self._watched(writer.write_data, None, "shard")
        writer.finish = self._watched(writer.finish, "index", None)

    def _watched(self, real: Callable[..., Any], before: str | None, after: str | None) -> Any:
        def watched(*args: Any, **options: Any) -> Any:
            counts = isinstance(args[0], torch.distributed.checkpoint.FileSystemWriter) or str(
                args[1]
            ).endswith(".ckpt")
            if before and counts:
                self.count(before)
            result = real(*args, **options)
            if after and counts:
                self.count(after)
            return result

        return watched


def train(job: Job, *callbacks: Callback) -> None:
    """One attempt, in one rank."""
    torch.set_num_threads(1)
    agree._POLL_S = 0.005
    rank = int(os.environ.get("RANK", "0"))
    folder = Path(job.folder)
    killer = Killer(job.kill, rank, folder)
    if job.kill is not None:
        killer.introduce()
        killer.watch_files()
    seed_everything(11)
    module = Net(killer)
    trainer = Trainer(
        accelerator="cpu",
        devices=1 if job.ranks == 1 else "auto",
        strategy=FSDPStrategy(state_dict_type="sharded") if job.sharded else "auto",
        max_epochs=STEPS // BATCHES,
        val_check_interval=VAL_EVERY,
        callbacks=[
            killer,
            *callbacks,
            ModelCheckpoint(folder / "ckpt", every_n_train_steps=SAVE_EVERY, save_top_k=-1),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    size = 4 // job.ranks
    training = DataLoader(Noisy(), size, shuffle=True, num_workers=job.workers)
    validation = DataLoader(torch.utils.data.Subset(Noisy(), range(VAL_BATCHES * size * job.ranks)), size)
    trainer.fit(module, training, validation, ckpt_path="auto")
    parts = module.state_dict()
    weights = {name: part.full_tensor() if job.sharded else part for name, part in parts.items()}
    if trainer.is_global_zero:
        torch.save(weights, folder / "weights.pt")


def attempt(job: Job) -> None:
    """One attempt, with as many ranks as it takes."""
    if job.ranks == 1:
        train(job)
    else:
        launch_function(job.ranks, train, (job,), start_method="fork")


def in_child(job: Job) -> int:
    """How a child process with this job ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            attempt(job)
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    alarm = threading.Timer(_RUN_DEADLINE_S, _end_who_hangs, (child,))
    alarm.start()
    _, status = os.waitpid(child, 0)
    alarm.cancel()
    _end_orphans()
    return os.waitstatus_to_exitcode(status)


def _end_who_hangs(child: int) -> None:
    """Have a child and all that it has started say where they are, then end it."""
    parents = {pid: parent for pid in _processes() if (parent := _parent_of(pid)) is not None}
    family = {child}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    for pid in sorted(family):
        print(f"process {pid}, of {parents.get(pid)}, does not end:", file=sys.stderr, flush=True)
        with suppress(OSError):
            os.kill(pid, signal.SIGUSR2)  # answered by faulthandler
    threading.Event().wait(_SAY_WITHIN_S)
    os.kill(child, signal.SIGKILL)


def _processes() -> list[int]:
    return [int(place.name) for place in Path("/proc").glob("[0-9]*")]


def _parent_of(pid: int) -> int | None:
    with suppress(OSError):  # it may end meanwhile
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(") ")[2].split()[1])
    return None


def _adopt_orphans() -> None:
    """Be the parent of workers whose rank was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_orphans() -> None:
    """A loader's worker that starts while its rank is killed takes who adopts it for its rank, and stays."""
    for pid in _processes():
        if _parent_of(pid) == os.getpid():
            with suppress(OSError):  # it may end meanwhile
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def serve() -> None:
    """Answer jobs until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _adopt_orphans()
    faulthandler.register(signal.SIGUSR2, all_threads=True)  # in every child, too
    with TemporaryDirectory() as folder:
        train(Job(folder, ranks=1, workers=0))  # what a first step imports, every child has then
    for line in sys.stdin:
        print(json.dumps(in_child(Job.of(json.loads(line)))), file=answers, flush=True)


def ask(server: Any, job: Job) -> int:
    """For the test: have a job done."""
    server.stdin.write(json.dumps(asdict(job)) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


Ask = Callable[[Job], int]

if __name__ == "__main__":
    serve()
