"""A Dockerfile for a file that `blixt serve` serves: written next to it, for any builder to build."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import blixt
from blixt.serve.errors import ConfigError

CPU_IMAGE = "python:3.12-slim"
GPU_IMAGE = "nvidia/cuda:12.8.1-runtime-ubuntu24.04"
IGNORED = (".git", ".venv", "__pycache__", "*.pyc", ".env", "*.log", "Dockerfile", ".dockerignore")


@dataclass(frozen=True, slots=True)
class Image:
    """What goes into the image.

    Args:
        file: The Python file to serve; its folder is the build's context.
        port: Where the service listens inside the container.
        gpu: Build on NVIDIA's CUDA runtime image instead of plain Python.
        extras: Extras of blixt to install beside `serve`.
        requirements: The file of further requirements, in the same folder; `requirements.txt` when None and
            it exists.
        command: What the container runs instead of `blixt serve` with the file.

    Raises:
        ConfigError: A file is missing, or the port is none.
    """

    file: Path
    port: int = 8000
    gpu: bool = False
    extras: tuple[str, ...] = ()
    requirements: str | None = None
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.file.is_file():
            raise ConfigError(f"{self.file} does not exist; give the path of a Python file.")
        if not 0 < self.port < 65536:
            raise ConfigError(f"port={self.port!r} is not a port; take one from 1 to 65535.")
        if self.requirements and not (self.file.parent / self.requirements).is_file():
            raise ConfigError(f"{self.requirements} does not lie beside {self.file}.")

    def dockerfile(self) -> str:
        """The text of the Dockerfile."""
        return "\n".join([*self._base(), "", *self._installs(), "", *self._service()]) + "\n"

    def _base(self) -> list[str]:
        if not self.gpu:
            return [f"FROM {CPU_IMAGE}"]
        return [
            f"FROM {GPU_IMAGE}",
            "RUN apt-get update \\",
            " && apt-get install -y --no-install-recommends python3 python3-venv \\",
            " && rm -rf /var/lib/apt/lists/* \\",
            " && python3 -m venv /opt/venv",
            "ENV PATH=/opt/venv/bin:$PATH",
        ]

    def _installs(self) -> list[str]:
        names = ",".join(sorted({"serve", *self.extras}))
        lines = ["WORKDIR /app", f'RUN pip install --no-cache-dir "blixt[{names}]=={blixt.__version__}"']
        wanted = self.requirements
        if wanted is None and (self.file.parent / "requirements.txt").is_file():
            wanted = "requirements.txt"
        if wanted:
            # Before the code, so that changing the code does not install everything again.
            lines += [f"COPY {wanted} ./", f"RUN pip install --no-cache-dir -r {wanted}"]
        return lines

    def _service(self) -> list[str]:
        served = ("blixt", "serve", self.file.name, "--host", "0.0.0.0", "--port", str(self.port))
        command = self.command or served
        probe = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{self.port}/health', timeout=4)"
        return [
            "COPY . .",
            "RUN useradd --create-home --uid 10001 blixt",
            "USER blixt",
            f"EXPOSE {self.port}",
            f'HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python", "-c", "{probe}"]',
            f"CMD {json.dumps(command)}",
        ]


def write(image: Image, *, force: bool = False) -> list[Path]:
    """Write `Dockerfile` and `.dockerignore` beside the file; an ignore file that is there stays.

    Raises:
        ConfigError: There is another Dockerfile, and not `force`.
    """
    folder = image.file.resolve().parent
    path, text = folder / "Dockerfile", image.dockerfile()
    if path.exists() and not force and path.read_text() != text:
        raise ConfigError(f"{path} exists and is another; move it away, or pass --force to replace it.")
    path.write_text(text)
    return [path, *_ignore(folder / ".dockerignore", IGNORED)]


def _ignore(path: Path, names: Iterable[str]) -> list[Path]:
    if path.exists():
        return []
    path.write_text("\n".join(names) + "\n")
    return [path]
