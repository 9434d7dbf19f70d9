"""One rank per node of a real Slurm of three nodes builds one dataset."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import slurm_cluster as slurm
from blixt.data import Dataset
from blixt.data.snapshot import latest_version
from slurm_cluster import Slurm

DEADLINE_S = 130
SCRIPT = """
    import json, os, sys
    from pathlib import Path
    from blixt.data import optimize

    def sample(i):
        folder = Path(sys.argv[1]).parent
        with open(folder / "calls", "a") as calls:
            calls.write(f"{os.environ['SLURM_NODEID']} {i}\\n")
        if i == 31 and sys.argv[3] == "break" and not (folder / "mended").exists():
            raise ValueError("broken")
        return {"x": i, "blob": bytes(i)}

    if __name__ == "__main__":
        snapshot = optimize(sample, range(int(sys.argv[2])), sys.argv[1], num_workers=1, unit_size=5,
                            mode="append", executor="ranks", verbose=False)
        print(json.dumps([snapshot.version, snapshot.rows]))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    reason = slurm.missing()
    if reason:
        pytest.skip(reason)
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def script(tmp_path: Path) -> str:
    import textwrap

    path = tmp_path / "build.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return str(path)


def calls(folder: Path) -> list[tuple[int, int]]:
    lines = [line.split() for line in (folder / "calls").read_text().splitlines()]
    return sorted((int(i), int(node)) for node, i in lines)


def test_three_nodes_build_and_append_once_each(cluster: Slurm, tmp_path: Path, script: str) -> None:
    out = tmp_path / "out"
    for version in (1, 2):
        done = cluster.srun(sys.executable, script, str(out), "60", "whole", timeout_s=DEADLINE_S)
        assert done.returncode == 0, done.stderr
        assert [json.loads(line) for line in done.stdout.splitlines()] == [[version, 60 * version]] * 3
        assert latest_version(out) == version
    assert [sample["x"] for sample in Dataset(out)] == [*range(60), *range(60)]
    assert [i for i, _ in calls(tmp_path)] == sorted([*range(60)] * 2)
    assert {node for _, node in calls(tmp_path)} == {0, 1, 2}


def test_a_job_that_failed_goes_on_when_it_is_submitted_again(
    cluster: Slurm, tmp_path: Path, script: str
) -> None:
    out = tmp_path / "out"
    done = cluster.srun(sys.executable, script, str(out), "60", "break", timeout_s=DEADLINE_S)
    assert done.returncode != 0
    assert "input 31 (31): ValueError: broken" in done.stderr
    before = {i for i, _ in calls(tmp_path)}
    kept = sorted(int(path.stem) for path in out.glob(".build/*/done/*.json"))
    assert 6 not in kept
    (tmp_path / "calls").unlink()
    (tmp_path / "mended").touch()
    done = cluster.srun(sys.executable, script, str(out), "60", "break", timeout_s=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    again = {i for i, _ in calls(tmp_path)}
    assert again == {i for i in range(60) if i // 5 not in kept}
    assert before | again == set(range(60))
    assert [sample["x"] for sample in Dataset(out)] == list(range(60))
