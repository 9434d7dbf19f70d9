"""Reloading in development."""

import os
import signal
import subprocess
import sys

import httpx

from blixt.serve.reload import changed_file, stamps
from blixt.serve.testing import wait_until

APP = """
from blixt.serve import API
from answer import ANSWER
class App(API):
    def predict(self, x):
        return ANSWER
"""


def test_a_changed_file_beside_the_app_restarts_it_on_the_same_port(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    answer = tmp_path / "answer.py"
    answer.write_text("ANSWER = 'one'")
    start = (
        "from blixt.serve.reload import run_with_reload\n"
        "if __name__ == '__main__':\n"
        f"    run_with_reload({str(tmp_path / 'app.py')!r}, port=0, accelerator='cpu', "
        "on_listening=lambda url: print(url, flush=True))\n"
    )
    (tmp_path / "start").mkdir()
    script = tmp_path / "start" / "start.txt"
    script.write_text(start)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        url = process.stdout.readline().strip()
        assert ask(url) == "one"
        answer.write_text("ANSWER = 'two, at last'")
        wait_until(lambda: ask(url) == "two, at last", 60, "the new version")
        answer.write_text("ANSWER = syntax error")
        answer.write_text("ANSWER = 'three, again'")
        wait_until(lambda: ask(url) == "three, again", 60, "the mended version")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(url):
    try:
        answer = httpx.post(f"{url}/predict", json=1, timeout=60)
    except httpx.TransportError:
        return None
    return answer.json() if answer.status_code == 200 else None


def test_only_python_files_outside_hidden_folders_and_environments_are_watched(tmp_path):
    for name in ("app.py", "lib/a.py", "notes.txt", ".git/b.py", "venv/lib/c.py", "__pycache__/d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    seen = stamps(tmp_path)
    assert sorted(str(file.relative_to(tmp_path)) for file in seen) == ["app.py", "lib/a.py"]
    assert changed_file(seen, stamps(tmp_path)) is None
    os.utime(tmp_path / "lib" / "a.py", (1, 1))
    assert changed_file(seen, stamps(tmp_path)) == tmp_path / "lib" / "a.py"
