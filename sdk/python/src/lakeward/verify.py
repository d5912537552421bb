"""Does the lake have what the source has? Counted at the source anew, and
compared slice by slice."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from . import shown
from .plan import Slice


@dataclass
class Difference:
    """A slice that is not as it should be, and in which way."""

    name: str
    why: str
    at_source: Optional[int] = None
    taken: Optional[int] = None
    settled: Optional[int] = None


@dataclass
class Report:
    """What `verify` found. ``rows`` has every slice: its records at the source,
    taken (when it was read last), and settled in each pipeline that delivers
    them."""

    source: str
    rows: List[Dict[str, Any]]
    differences: List[Difference]

    @property
    def ok(self) -> bool:
        return not self.differences

    @property
    def records(self) -> int:
        """Records at the source."""
        return sum(row["at_source"] or 0 for row in self.rows)

    def to_pandas(self):
        """A data frame with a row for each slice."""
        return shown.pandas().DataFrame(self.rows)

    def _summary(self) -> str:
        what = f"{self.source}: {shown.plural(len(self.rows), 'slice')}, {self.records:,} records at the source"
        return f"{what}; no difference" if self.ok else f"{what}; {shown.plural(len(self.differences), 'difference')}"

    def _table(self):
        return [(d.name, d.at_source, d.taken, d.settled, d.why) for d in self.differences[: shown.ROWS]]

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        if self.ok:
            return self._summary()
        return f"{self._summary()}\n{shown.text_table(_HEAD, self._table())}"

    def __repr__(self) -> str:
        return f"<Report {self._summary()}>"

    def _repr_html_(self) -> str:
        more = len(self.differences) - shown.ROWS
        if self.ok:
            return f"<p><b>{self._summary()}</b></p>"
        return shown.html_table(_HEAD, self._table(), self._summary(), more)


_HEAD = ["slice", "at the source", "taken", "settled", "what is wrong"]


def compare(source: str, slices: List[Slice], counted: List[Dict[str, Any]], pipelines: List[str]) -> Report:
    """Joins what was counted with what is known of the slices."""
    known = {piece.name: piece for piece in slices}
    rows, differences = [], []
    for count in counted:
        piece = known.pop(count["name"], None)
        at_source = count.get("records") if count["state"] in ("counted", "empty", "exported") else None
        taken = piece.records_read if piece is not None else None
        row: Dict[str, Any] = {
            "name": count["name"], "state": piece.state if piece else count["state"],
            "at_source": at_source, "taken": taken,
        }
        row.update({pipeline: piece.settled(pipeline) if piece else None for pipeline in pipelines})
        rows.append(row)
        differences.extend(_wrong(count, piece, at_source, pipelines))
    for piece in known.values():
        if piece.state != "not_ready":
            differences.append(Difference(piece.name, "it was not counted; it appeared meanwhile", None, piece.records))
    return Report(source, rows, differences)


def _wrong(count, piece: Optional[Slice], at_source: Optional[int], pipelines: List[str]) -> List[Difference]:
    name = count["name"]
    if count["state"] == "not_ready":
        return []
    if count["state"] == "failed":
        taken = piece.records if piece else None
        return [Difference(name, count.get("reason") or "it could not be read", None, taken)]
    if piece is None:
        return [Difference(name, "it is not at the source any more", at_source)]
    if piece.state == "changed":
        return [Difference(name, "it changed at the source after it was taken", at_source, piece.records)]
    if piece.state == "new" and at_source == 0:
        return []
    if piece.state != "taken":
        reason = f": {piece.reason}" if piece.reason else ""
        return [Difference(name, f"it is not taken ({piece.state}){reason}", at_source, piece.records)]
    taken = piece.records_read or 0
    if at_source is None or at_source < taken:
        return [Difference(name, "the source has fewer records than were taken", at_source, taken)]
    if at_source > taken:
        more = f"{shown.plural(at_source - taken, 'record')} came later; `apply(..., again=True)` takes them"
        return [Difference(name, more, at_source, taken)]
    found = []
    for pipeline in pipelines:
        settled, besides = piece.settled(pipeline), piece.besides(pipeline)
        if settled < taken:
            why = f"{pipeline} has not settled all of it yet"
        elif settled > taken:
            why = f"{pipeline} has settled more than was taken"
        elif besides:
            why = f"{pipeline} has {shown.plural(besides, 'record')} of its other versions or earlier readings, too"
        else:
            continue
        found.append(Difference(name, why, at_source, taken, settled))
    return found
