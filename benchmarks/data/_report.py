"""Put what the other scripts measured into the page of benchmarks, between its marks.

    python -m benchmarks.data._report [FOLDER ...] [--page docs/data/benchmarks.md]

Looks for `data-*.json` in the folders and below them, `benchmarks/results` by default; of a row that was
measured several times the newest counts, and a row that was not measured keeps the line it has.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data import bounds, build
from benchmarks.data._bench import RESULTS, ROOT, table

PAGE = ROOT / "docs" / "data" / "benchmarks.md"
HEAD = "| row | asked | measured | limit of any reader | taken (UTC) |\n|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Line:
    """A line of the table: what it is called on the page, and the row of the results that it shows."""

    label: str
    row: str


LINES = [
    Line("raw JPEG bytes, local, 1 worker", "raw JPEG bytes, local, 1 worker"),
    Line("raw JPEG bytes, local, 2 workers", "raw JPEG bytes, local, 2 workers"),
    Line("decode to batch, local, 1 worker", "decode to uint8 batch, local, 1 worker"),
    Line("decode to batch, local, 2 workers", "decode to uint8 batch, local, 2 workers"),
    Line("token blocks, local", "token blocks of 2048, local, 1 worker"),
    Line("S3 cold, raw bytes, 1 worker", "S3 cold, raw bytes, 1 worker"),
    Line("S3 cold, raw bytes, 2 workers", "S3 cold, raw bytes, 2 workers"),
    Line("S3 cold, token blocks", "S3 cold, token blocks, 1 worker"),
    Line("S3 warm, raw bytes, 1 worker", "S3 warm, raw bytes, 1 worker"),
    Line("S3 warm, raw bytes, 2 workers", "S3 warm, raw bytes, 2 workers"),
    Line("first batch from S3, raw bytes", "S3 cold, first batch of raw bytes"),
    Line("first batch from S3, tokens", "S3 cold, first batch of tokens"),
    Line("`ds[i]`, local, 3,000 reads", "ds[i] of raw bytes, local, 3,000 reads"),
    Line("fixed tensors, local", "fixed tensors, local, 1 worker"),
]


def results(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return what was measured, the oldest first."""
    paths = [path for folder in folders for path in sorted(folder.rglob("data-*.json"))]
    return sorted((json.loads(path.read_text()) for path in paths), key=lambda one: one["machine"]["date"])


def taken(result: dict[str, Any], turns: int | None = None) -> str:
    """Say when something was measured, how busy the machine was, and how often it was read."""
    about = {**result["machine"], **result}
    low, high = sorted((about["load_at_start"], about["load_at_end"]))
    text = f"{about['date'].removesuffix(' UTC')}, load {low:.1f} to {high:.1f}"
    return text if turns is None else f"{text}, {turns} turn{'s' * (turns > 1)}"


def row_line(line: Line, row: dict[str, Any], result: dict[str, Any]) -> str:
    """Return a line of the table for a row with competitors."""
    ours = next(one for one in row["competitors"].values() if one["system"] == "blixt")
    limit = row.get("limit_ratio")
    measured = f"{ours['ratio']:.1f}x" if ours["ratio"] >= 10 else f"{ours['ratio']:.2f}x"
    if ours["ratio"] < row["target"]:
        measured = f"**{measured}{': capped' if limit is not None and limit < row['target'] else ''}**"
    capped = "" if limit is None else f"{limit:.2f}x: {row['limit_is']}"
    when = taken(result, ours["turns"])
    if "S3" in line.row and "2 workers" in line.row:  # taken of less data, for LitData takes so long
        when += f", {result['data'].split(', ')[0]}"
    return f"| {line.label} | {row['target']:g}x | {measured} | {capped} | {when} |"


def build_lines(result: dict[str, Any]) -> dict[str, str]:
    """Return the lines about building, by label."""
    found, when = result["builders"], taken(result, result["runs"])

    def times(workers: str) -> float:
        name = f"optimize, {workers}"
        return found[f"LitData {name}"]["cpu_us_per_sample"] / found[f"blixt {name}"]["cpu_us_per_sample"]

    two = found["blixt optimize, 2 workers"]
    ratios = f"{times('1 worker'):.1f}x and {times('2 workers'):.1f}x"
    labels = {
        "build, CPU per sample, 1 and 2 workers": (f"{build.TARGET:g}x", ratios),
        "build, start-up with 2 workers": (
            f"below {build.TARGET_STARTUP_S:g} s",
            f"{two['startup_s']:.2f} s",
        ),
        "bytes on disk, of the payload": (f"at most {build.TARGET_STORED:g}", f"{two['stored']:.4f}"),
    }
    return {label: f"| {label} | {asked} | {it} | | {when} |" for label, (asked, it) in labels.items()}


def bounds_lines(result: dict[str, Any]) -> dict[str, str]:
    """Return the lines about requests and memory, by label."""
    when, opening = taken(result, result["runs"]), result["opening"]
    kinds = [one.split(" ")[0] for one in opening["asked"]]
    asked = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    opened = (
        f"{asked} ({result['index_bytes'] / 1e6:.1f} MB), {opening['wall_s'] * 1000:.0f} ms wall, "
        f"{opening['cpu_s'] * 1000:.0f} ms CPU"
    )
    label = "100,000 shards from S3"
    lines = {label: f"| {label} | open with one GET | {opened} | | {when} |"}
    for io_bytes, one in result["memory"].items():
        label = f"private memory of an S3 epoch, `io_bytes` {io_bytes.replace('MB', ' MB')}"
        allowed = f"what the arguments allow: {one['allowed_mb']:.0f} MB"
        lines[label] = f"| {label} | {allowed} | {one['mb']:.0f} MB | | {when} |"
    return lines


def lines_of(found: list[dict[str, Any]]) -> dict[str, str]:
    """Return the lines that the results give, by label; the newest of each."""
    lines: dict[str, str] = {}
    for result in found:
        rows = {row["row"]: row for row in result.get("rows", [])}
        lines |= {line.label: row_line(line, rows[line.row], result) for line in LINES if line.row in rows}
        lines |= build_lines(result) if "builders" in result else {}
        lines |= bounds_lines(result) if "opening" in result else {}
    return lines


def figures_of(found: list[dict[str, Any]]) -> dict[str, str]:
    """Return the tables behind the lines, each with its date, by row; the newest of each."""
    tables: dict[str, str] = {}
    for result in found:
        for row in result.get("rows", []):
            tables[row["row"]] = f"{taken(result)}, {result['data']}{table([row])}"
        if "builders" in result:
            count = f"{result['data']['count']:,}"
            tables["build"] = f"{taken(result)}, {count} JPEG files\n{build.table(result['builders'])}"
        if "opening" in result:
            tables["bounds"] = bounds.text(result)
    return tables


def figures_on(page: str) -> dict[str, str]:
    """Return the tables that stand on the page, by row."""
    tables: dict[str, str] = {}
    for block in page.replace("```", "").strip().split("\n\n"):
        row = re.search(r"^(.+) \(target ", block, re.M)
        name = row[1] if row else "build" if "optimize" in block else "bounds" if "opened" in block else None
        if name is not None:
            tables[name] = block.strip("\n")
    return tables


def machine(result: dict[str, Any]) -> str:
    """Return a line about the machine and the versions."""
    about = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return f"{about['cpu']}, {about['cores']} cores, Python {about['python']}, {versions}"


def between(page: str, mark: str, change: Callable[[str], str]) -> str:
    """Return the page with what stands between two marks changed."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, _, rest = page.partition(begin)
    inside, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"the page has no part between {begin.strip()} and {end}")
    return f"{before}{begin}{change(inside)}{end}{after}"


def filled(page: str, found: list[dict[str, Any]]) -> str:
    """Return the page with the table and the figures of these results."""
    lines = lines_of(found)

    def table_of(inside: str) -> str:
        there = {
            line.split(" | ")[0].removeprefix("| "): line for line in re.findall(r"^\| .*$", inside, re.M)
        }
        there.pop("row", None)
        return HEAD + "".join(f"{line}\n" for line in ({**there, **lines}).values())

    def figures(inside: str) -> str:
        blocks = {**figures_on(inside), **figures_of(found)}
        return "```\n" + "\n\n".join([machine(found[-1]), *blocks.values()]) + "\n```\n"

    return between(between(page, "reach", table_of), "figures", figures)


def main() -> None:
    """Fill the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[RESULTS])
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    found = results(given.folders)
    if not found:
        raise SystemExit(f"there is no data-*.json in {', '.join(map(str, given.folders))}")
    given.page.write_text(filled(given.page.read_text(), found))


if __name__ == "__main__":
    main()
