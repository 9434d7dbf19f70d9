"""blixt up, down, status on this machine."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from client.server import BLIXT, blixt


def test_up_in_the_background_status_and_down(tmp_path: Path) -> None:
    home = {"BLIXT_DATA_DIR": str(tmp_path / "cloud")}
    started = json.loads(blixt("up", "--detach", "--port", "0", "--json", env=home).stdout)
    try:
        assert "?ticket=" in started["console_url"]
        assert json.loads(blixt("status", "--json", env=home).stdout)["url"] == started["url"]
        again = blixt("up", "--detach", "--port", "0", env=home)
        assert again.returncode != 0
        assert "error: " in again.stderr
        assert "blixt down" in again.stderr
    finally:
        done = blixt("down", "--json", env=home)
    assert json.loads(done.stdout) == {"stopped": True}
    assert blixt("status", env=home).returncode == 1
    assert json.loads(blixt("down", "--json", env=home).stdout) == {"stopped": False}


def test_up_in_the_foreground_ends_cleanly_with_ctrl_c(tmp_path: Path) -> None:
    command = [*BLIXT, "up", "--port", "0", "--data-dir", str(tmp_path / "cloud")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        lines = iter(process.stderr.readline, "")
        assert any("is up at http://127.0.0.1:" in line for line in lines)
        assert any("Ctrl-C stops it" in line for line in lines)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        code = process.wait(180)
    assert code in (0, 130), rest
    assert "Traceback" not in rest
    found = blixt("status", "--data-dir", str(tmp_path / "cloud"))
    assert found.returncode == 1


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = blixt("up", "--detach", "--port", str(port), "--data-dir", str(tmp_path / "cloud"))
    assert done.returncode != 0
    assert f"{port} on 127.0.0.1 is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = blixt("up", "--detach", "--port", "0", "--data-dir", str(tmp_path / "file" / "cloud"))
    assert done.returncode != 0
    assert str(tmp_path / "file" / "cloud") in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["file"]
