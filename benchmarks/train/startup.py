"""What importing and starting costs, and how much memory a fit adds: each in fresh processes.

Compiled modules are kept in a folder of the benchmark's own, as pip leaves them beside an installed
package: a first round that does not count writes them.

python -m benchmarks.train.startup [--rounds 7] [--out FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks.train._loops import RESULTS, machine

_CLOCK = "import time; begin = time.process_time()\n"
_TELL = "\nprint('RESULT', (time.process_time() - begin) * 1000)"
_FIT = """
import time, torch
torch.set_num_threads(1)
from torch import nn
from {library} import {names}
class Model({module}):
    def __init__(self):
        super().__init__(); self.net = nn.Linear(8, 1)
    def training_step(self, batch, batch_idx):
        print('RESULT', (time.process_time() - begin) * 1000)
        raise SystemExit
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=0.1)
model, data = Model(), torch.utils.data.DataLoader(torch.randn(16, 8), 4)
model.configure_optimizers()  # the first optimizer of a process makes torch import its compiler
begin = time.process_time()
Trainer(accelerator='cpu', devices=1, max_epochs=1, logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False).fit(model, data)
"""
_RAW_STEPS = """
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for x in data:
    loss = net(x).pow(2).mean(); optimizer.zero_grad(); loss.backward(); optimizer.step()
"""
_FIT_STEPS = """
class Model(Module):
    def __init__(self):
        super().__init__(); self.net = net
    def training_step(self, batch, batch_idx):
        loss = self.net(batch).pow(2).mean(); self.log('loss', loss); return loss
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=0.1)
Trainer(accelerator='cpu', devices=1, max_epochs=1, logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False).fit(Model(), data)
"""
_MEMORY = """
import resource, torch
torch.set_num_threads(1)
from torch import nn
{imports}
net, data = nn.Sequential(*[nn.Linear(512, 512) for _ in range(8)]), torch.utils.data.DataLoader(
    torch.randn(4096, 512), 64)
{steps}
print('RESULT', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def programs() -> dict[str, tuple[str, str]]:
    """Name -> (unit, program that prints its number)."""
    ours = {"library": "blixt.trainer", "names": "Module, Trainer", "module": "Module"}
    imports = "from blixt.trainer import Module, Trainer"
    found = {
        "import blixt": ("ms", _CLOCK + "import blixt" + _TELL),
        "import torch": ("ms", _CLOCK + "import torch" + _TELL),
        "from blixt.trainer import Trainer, after torch": ("ms", "import torch\n" + _CLOCK + imports + _TELL),
        "blixt: from Trainer() to the first training_step": ("ms", _FIT.format(**ours)),
        "memory of a raw loop": ("MB", _MEMORY.format(imports="", steps=_RAW_STEPS)),
        "memory of a blixt fit": ("MB", _MEMORY.format(imports=imports, steps=_FIT_STEPS)),
    }
    if find_spec("lightning") is not None:
        theirs = {"library": "lightning.pytorch", "names": "LightningModule, Trainer"}
        lightning = "from lightning.pytorch import LightningModule as Module, Trainer"
        found["from lightning.pytorch import Trainer, after torch"] = (
            "ms",
            "import torch\n" + _CLOCK + lightning + _TELL,
        )
        found["Lightning: from Trainer() to the first training_step"] = (
            "ms",
            _FIT.format(**theirs, module="LightningModule"),
        )
        found["memory of a Lightning fit"] = ("MB", _MEMORY.format(imports=lightning, steps=_FIT_STEPS))
    return found


def measure(program: str, compiled: str) -> float:
    """The number that a fresh process prints, which finds compiled modules in a folder."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env=environment
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.exit(f"A program failed:\n{program}\n{result.stderr[-2000:]}")
    return float(lines[0].split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS / "train-startup.json", help="JSON goes here")
    options = parser.parse_args()
    about = machine()
    print("  ".join(f"{name} {value}" for name, value in about.items()))
    cases = programs()
    values: dict[str, list[float]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as compiled:
        for number in range(options.rounds + 1):
            for name, (_, program) in cases.items():
                value = measure(program, compiled)
                if number:  # the first round writes the compiled modules
                    values[name].append(value)
    results = {
        name: {"unit": unit, "median": statistics.median(values[name]), "best": min(values[name])}
        for name, (unit, _) in cases.items()
    }
    for name, row in results.items():
        print(f"{name:56}{row['median']:9.1f} {row['unit']}   best {row['best']:.1f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": about, "rounds": options.rounds, "results": results}
    options.out.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
