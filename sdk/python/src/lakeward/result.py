"""What a query found, as you want to have it."""

import json
from typing import Any, Dict, Iterator, List

from . import shown

ARROW, NDJSON = "arrow", "ndjson"


def best_format() -> str:
    """Arrow if something here reads it, else JSON."""
    for module in ("pyarrow", "polars"):
        try:
            __import__(module)
            return ARROW
        except ImportError:
            pass
    return NDJSON


class QueryResult:
    """All rows of one answer. ``to_pandas()``, ``to_arrow()``, ``to_polars()``,
    or plain: ``rows()``, iteration, ``len``."""

    def __init__(self, body: bytes, format: str):
        self._body = body
        self._format = format

    def to_arrow(self):
        """A ``pyarrow.Table``."""
        try:
            import pyarrow
        except ImportError:
            raise ImportError("this needs pyarrow: pip install 'lakeward[arrow]'") from None
        if self._format == ARROW:
            with pyarrow.ipc.open_stream(pyarrow.py_buffer(self._body)) as reader:
                return reader.read_all()
        return pyarrow.Table.from_pylist(self.rows())

    def to_pandas(self):
        """A ``pandas.DataFrame``."""
        pandas = shown.pandas()
        if self._format == ARROW:
            try:
                return self.to_arrow().to_pandas()
            except ImportError:
                pass
        return pandas.DataFrame(self.rows())

    def to_polars(self):
        """A ``polars.DataFrame``."""
        try:
            import polars
        except ImportError:
            raise ImportError("this needs polars: pip install 'lakeward[polars]'") from None
        return polars.read_ipc_stream(self._body) if self._format == ARROW else polars.DataFrame(self.rows())

    def rows(self) -> List[Dict[str, Any]]:
        """Every row as a dict."""
        if self._format == NDJSON:
            return [json.loads(line) for line in self._body.splitlines()]
        try:
            return self.to_arrow().to_pylist()
        except ImportError:
            return self.to_polars().to_dicts()

    def scalar(self) -> Any:
        """The one value of an answer that has one row and one column."""
        rows = self.rows()
        if len(rows) != 1 or len(rows[0]) != 1:
            raise ValueError(f"the answer has {shown.plural(len(rows), 'row')}, not one value")
        return next(iter(rows[0].values()))

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        return iter(self.rows())

    def __len__(self) -> int:
        if self._format == NDJSON:
            return len(self._body.splitlines())
        try:
            return self.to_arrow().num_rows
        except ImportError:
            return len(self.rows())

    def __repr__(self) -> str:
        return f"<QueryResult of {shown.plural(len(self), 'row')}: to_pandas(), to_arrow(), to_polars(), rows()>"

    def _repr_html_(self) -> str:
        rows = self.rows()
        head = list(rows[0]) if rows else []
        first = [[row.get(name) for name in head] for row in rows[: shown.ROWS]]
        return shown.html_table(head, first, shown.plural(len(rows), "row"), len(rows) - shown.ROWS)
