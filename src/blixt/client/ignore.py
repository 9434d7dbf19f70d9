"""The patterns of .gitignore: which files of a source folder stay at home."""

import re
from dataclasses import dataclass
from pathlib import Path

IGNORE_FILES = (".gitignore", ".blixtignore")
DEFAULT_PATTERNS = (
    ".git/",
    ".hg/",
    ".venv/",
    ".venv-*/",
    "venv/",
    "__pycache__/",
    "*.pyc",
    "node_modules/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".ipynb_checkpoints/",
    ".DS_Store",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of an ignore file: what it matches, whether it brings back, whether it is for folders only."""

    pattern: re.Pattern[str]
    keep: bool
    folders_only: bool


def parse_rule(line: str, base: str = "") -> Rule | None:
    """Read one line; None for comments and empty lines.

    Args:
        line: Such as `*.log`, `/build`, `data/**/raw/` or `!keep.log`.
        base: The folder of the ignore file relative to the root, `""` or `"sub/"`.
    """
    line = line.rstrip("\n\r").rstrip(" ")
    if not line or line.startswith("#"):
        return None
    keep = line.startswith("!")
    line = line.removeprefix("!").removeprefix("\\")
    folders_only = line.endswith("/")
    line = line.rstrip("/")
    anchored = "/" in line
    prefix = re.escape(base) + ("" if anchored else "(?:.*/)?")
    return Rule(re.compile(prefix + _translate(line.removeprefix("/"))), keep, folders_only)


def read_rules(folder: Path, base: str = "") -> list[Rule]:
    """The rules of the ignore files that lie in one folder."""
    rules: list[Rule] = []
    for name in IGNORE_FILES:
        file = folder / name
        if file.is_file():
            lines = file.read_text(errors="replace").splitlines()
            rules += [rule for line in lines if (rule := parse_rule(line, base))]
    return rules


def default_rules() -> list[Rule]:
    """What nobody wants in a job: version control, environments, caches."""
    return [rule for line in DEFAULT_PATTERNS if (rule := parse_rule(line))]


def ignored(path: str, is_folder: bool, rules: list[Rule]) -> bool:
    """Whether a path (relative to the root, with `/`) stays at home: the last rule that matches decides."""
    for rule in reversed(rules):
        if (is_folder or not rule.folders_only) and rule.pattern.fullmatch(path):
            return not rule.keep
    return False


def _translate(glob: str) -> str:
    """A gitignore glob as a regular expression: `*` and `?` stop at `/`, `**` does not."""
    out, i = "", 0
    while i < len(glob):
        if glob.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
        elif glob.startswith("**", i):
            out, i = out + ".*", i + 2
        elif glob[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif glob[i] == "?":
            out, i = out + "[^/]", i + 1
        elif glob[i] == "[" and (end := glob.find("]", i + 2)) > 0:
            out, i = out + "[" + glob[i + 1 : end].replace("!", "^", 1) + "]", end + 1
        else:
            out, i = out + re.escape(glob[i]), i + 1
    return out
