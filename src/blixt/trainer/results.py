"""What validate and test found, for programs and for people."""

from collections.abc import Mapping, Sequence

_MARK = "/dataloader_idx_"


def by_loader(row: dict[str, float], count: int, owners: Mapping[str, int]) -> list[dict[str, float]]:
    """The metrics of each loader; those of no loader in particular belong to all.

    Args:
        row: All of them.
        count: Loaders.
        owners: Which loader a name without suffix is of.
    """
    if count == 1:
        return [row]

    def belongs(name: str, index: int) -> bool:
        if _MARK in name:
            return name.endswith(f"{_MARK}{index}")
        return owners.get(name, index) == index

    return [{name: value for name, value in row.items() if belongs(name, i)} for i in range(count)]


def table(title: str, rows: Sequence[dict[str, float]]) -> str:
    """The metrics of all loaders as lines of text, a column a loader.

    Example:
        >>> print(table("test", [{"loss": 0.25, "accuracy": 1.0}]))
        test
        loss      0.25
        accuracy  1
    """
    columns: list[dict[str, str]] = [
        {name.partition(_MARK)[0]: f"{float(value):.6g}" for name, value in row.items()} for row in rows
    ]
    names = list(dict.fromkeys(name for column in columns for name in column))
    if not names:
        return ""
    several = len(columns) > 1
    heads = [f"loader {index}" if several else "" for index in range(len(columns))]
    widths = [
        max([len(head), *map(len, column.values())]) for head, column in zip(heads, columns, strict=True)
    ]
    first = max(map(len, [title, *names]))
    lines = [[title, *heads], *([name, *(column.get(name, "") for column in columns)] for name in names)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, [first, *widths], strict=True)).rstrip()
        for line in lines
    )
