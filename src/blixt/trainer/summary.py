"""What a module is made of, in a few lines."""

from torch import nn


def summarize(module: nn.Module) -> str:
    """A table of the direct children and their parameters.

    Example:
        >>> print(summarize(nn.Sequential(nn.Linear(2, 3))))
        name  type    parameters
        0     Linear  9
        9 parameters, 9 of them trained
    """
    rows = [("name", "type", "parameters")]
    for name, child in module.named_children():
        rows.append((name, type(child).__name__, f"{sum(p.numel() for p in child.parameters()):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows]
    total = sum(p.numel() for p in module.parameters())
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    lines.append(f"{total:,} parameters, {trained:,} of them trained")
    return "\n".join(lines)
