"""`blixt.llm.chat` is a package and a function: one object, whatever was imported first."""

import subprocess
import sys

import pytest

IMPORTS = [
    "from blixt.llm import chat",
    "from blixt.llm.chat import ChatTemplate; from blixt.llm import chat",
    "import blixt.llm.chat as chat",
]


@pytest.mark.parametrize("imports", IMPORTS)
def test_it_can_be_called_and_holds_its_names_in_any_order_of_imports(imports: str) -> None:
    code = (
        f"{imports}\n"
        "import sys\n"
        "assert chat is sys.modules['blixt.llm.chat'] is __import__('blixt').llm.chat\n"
        "assert chat.ChatTemplate.__name__ == 'ChatTemplate'\n"
        "assert callable(chat)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
