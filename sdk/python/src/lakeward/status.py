"""What a service says of itself."""

from dataclasses import dataclass
from typing import Any, Dict, List

from . import shown


class Status(dict):
    """The service's own answer, with ``ready``, ``pipelines`` and ``sources``."""

    @property
    def ready(self) -> bool:
        return bool(self.get("ready"))

    @property
    def pipelines(self) -> List[Dict[str, Any]]:
        return self.get("pipelines") or []

    @property
    def sources(self) -> List[Dict[str, Any]]:
        return self.get("sources") or []

    def _tables(self):
        head = ["pipeline", "received", "delivered", "filtered", "duplicates", "quarantined", "pending", "state"]
        rows = [[_text(pipeline.get(name)) for name in head] for pipeline in self.pipelines]
        yield head, rows
        if self.sources:
            head = ["source", "kind", "stream", "state", "taken", "open", "set_aside", "next_look"]
            yield head, [[_text(source.get(name)) for name in head] for source in self.sources]

    def __str__(self) -> str:
        head = "ready" if self.ready else "not ready: it is stopping, or its journal is full"
        return "\n\n".join([head] + [shown.text_table(names, rows) for names, rows in self._tables()])

    def __repr__(self) -> str:
        return f"<Status\n{self}>"

    def _repr_html_(self) -> str:
        title = "ready" if self.ready else "not ready"
        return f"<p><b>{title}</b></p>" + "".join(shown.html_table(names, rows) for names, rows in self._tables())


def _text(value: Any) -> Any:
    # Some states say more than their name.
    if isinstance(value, dict):
        return value.get("state") or next(iter(value), "")
    return value


@dataclass
class Table:
    """A pipeline as SQL sees it."""

    name: str
    rows: int
    files: int
    bytes: int
    columns: List[Dict[str, str]]

    def _repr_html_(self) -> str:
        sizes = f"{shown.plural(self.rows, 'row')}, {shown.plural(self.files, 'file')}, {shown.size(self.bytes)}"
        rows = [(column["name"], column["type"]) for column in self.columns]
        return shown.html_table(["column", "type"], rows, f"{self.name}: {sizes}")
