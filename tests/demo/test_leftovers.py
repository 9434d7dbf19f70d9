import os
import subprocess
import sys
from pathlib import Path

from blixt.demo.leftovers import Traces
from blixt.demo.stage import sparkline


def test_a_clean_machine_has_no_traces(tmp_path: Path) -> None:
    assert Traces(tmp_path / "never-used").left() == []


def test_processes_are_found_by_command_environment_and_folder(tmp_path: Path) -> None:
    code = "print('up', flush=True); import sys; sys.stdin.read()"
    started = [
        subprocess.Popen([sys.executable, "-c", code, *words], stdin=-1, stdout=-1, env=env, cwd=cwd)
        for words, env, cwd in (
            ([str(tmp_path)], None, None),
            ([], os.environ | {"BLIXT_DATA_DIR": str(tmp_path)}, None),
            ([], None, tmp_path),
        )
    ]
    try:
        for process in started:
            assert process.stdout
            process.stdout.readline()
        found = Traces(tmp_path).left()
        assert sorted(int(trace.split()[1]) for trace in found) == sorted(process.pid for process in started)
    finally:
        for process in started:
            process.communicate()
    assert Traces(tmp_path).left() == []


def test_a_curve_is_drawn_in_one_line() -> None:
    assert sparkline([]) == ""
    assert sparkline([1.0]) == "▁"
    assert sparkline([3.0, 2.0, 1.0, 0.0]) == "█▅▃▁"
    assert len(sparkline([float(n) for n in range(1000)])) == 40
