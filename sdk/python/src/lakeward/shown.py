"""Tables and numbers for people: in a notebook, in a terminal."""

import html
from typing import Any, Iterable, List, Optional, Sequence

#: Rows of a table that are shown.
ROWS = 20


def number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def size(value: Optional[int]) -> str:
    """Bytes in units that fit."""
    if value is None:
        return "?"
    amount, units = float(value), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{int(amount)} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def plural(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def html_table(head: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "", more: int = 0) -> str:
    """A table; numbers stand right."""
    parts: List[str] = []
    if title:
        parts.append(f"<p><b>{html.escape(title)}</b></p>")
    parts.append("<table><thead><tr>")
    parts.extend(f"<th>{html.escape(name)}</th>" for name in head)
    parts.append("</tr></thead><tbody>")
    for row in rows:
        parts.append("<tr>")
        for value in row:
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            align = "right" if is_number else "left"
            parts.append(f'<td style="text-align: {align}">{html.escape(number(value))}</td>')
        parts.append("</tr>")
    parts.append("</tbody></table>")
    if more > 0:
        parts.append(f"<p>… and {plural(more, 'more row')}</p>")
    return "".join(parts)


def text_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The same in a terminal."""
    lines = [list(head)] + [[number(value) for value in row] for row in rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def pandas():
    """pandas, or what to do to have it."""
    try:
        import pandas as found
    except ImportError:
        raise ImportError("this needs pandas: pip install 'lakeward[pandas]'") from None
    return found
