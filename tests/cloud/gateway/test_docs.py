import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "gateway.md"


def test_the_example_of_the_page_prints_what_the_page_says(tmp_path: Path) -> None:
    text = PAGE.read_text()
    program = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    printed = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert program is not None
    assert printed is not None
    script = tmp_path / "example.py"
    script.write_text(program[1])
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout == printed[1]
