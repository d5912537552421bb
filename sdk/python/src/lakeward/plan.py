"""What a source has, slice by slice, and what taking it would mean."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from . import shown

#: What a slice can be, and what that means.
STATES = {
    "new": "to be taken",
    "not_ready": "not ready at the source yet",
    "open": "being taken",
    "taken": "taken",
    "changed": "taken before with another content",
    "set_aside": "set aside, because it could not be read",
}


@dataclass
class Slice:
    """A piece of a source that is taken as a whole: an hour, an object.

    ``pipelines`` says, per pipeline, what became of its records: delivered,
    filtered, duplicates, quarantined, and the rows that were written.
    ``again`` is the last time that it was taken once more (``records``,
    ``taken_at`` and its own ``pipelines``), if it was. ``others`` says, per
    pipeline, what became of all else that was taken under its name: other
    versions, and what was taken before ``again``.
    """

    name: str
    state: str
    version: str = ""
    date: Optional[str] = None
    bytes: Optional[int] = None
    ready_at: Optional[str] = None
    captured: Dict[str, Any] = field(default_factory=dict)
    id: str = ""
    records: Optional[int] = None
    taken_at: Optional[str] = None
    reason: Optional[str] = None
    pipelines: Dict[str, Dict[str, int]] = field(default_factory=dict)
    again: Optional[Dict[str, Any]] = None
    others: Dict[str, Dict[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: Dict[str, Any]) -> "Slice":
        known = {name: value for name, value in answer.items() if name in cls.__dataclass_fields__}
        known["version"] = known.get("version") or ""
        known["captured"] = known.get("captured") or {}
        known["pipelines"] = known.get("pipelines") or {}
        known["others"] = known.get("others") or {}
        return cls(**known)

    @property
    def records_read(self) -> Optional[int]:
        """Its records when it was taken last."""
        return self.again["records"] if self.again else self.records

    def settled(self, pipeline: str) -> int:
        """Those of `records_read` whose fate in the pipeline is decided."""
        counts = self._last(pipeline)
        return sum(counts.get(name) or 0 for name in ("delivered", "filtered", "duplicates", "quarantined"))

    def besides(self, pipeline: str) -> int:
        """Records of its other versions and earlier readings that the pipeline
        delivered and that the last reading does not repeat: the lake has them
        besides it."""
        delivered = self.others.get(pipeline, {}).get("delivered") or 0
        return max(0, delivered - (self._last(pipeline).get("duplicates") or 0))

    def _last(self, pipeline: str) -> Dict[str, int]:
        pipelines = (self.again.get("pipelines") or {}) if self.again else self.pipelines
        return pipelines.get(pipeline) or {}


@dataclass
class Plan:
    """The slices that are meant, and what there is to do. It is a look: taking
    it takes what is there at that time, each slice once."""

    source: str
    wanted: Dict[str, Any]
    slices: List[Slice]
    dates: str = ""
    pipeline: Optional[str] = None

    @property
    def counts(self) -> Dict[str, int]:
        """Slices by state."""
        counts = {state: 0 for state in STATES}
        for piece in self.slices:
            counts[piece.state] = counts.get(piece.state, 0) + 1
        return counts

    @property
    def to_take(self) -> List[Slice]:
        """What `apply` would take: new ones, changed ones, and those that were
        set aside, once more."""
        return [piece for piece in self.slices if piece.state in ("new", "open", "changed", "set_aside")]

    @property
    def bytes(self) -> Optional[int]:
        """Bytes to take, as far as the source says."""
        known = [piece.bytes for piece in self.to_take if piece.bytes is not None]
        return sum(known) if known or not self.to_take else None

    @property
    def records_taken(self) -> int:
        """Records of the slices that are taken."""
        return sum(piece.records or 0 for piece in self.slices if piece.state == "taken")

    @property
    def estimated_records(self) -> Optional[int]:
        """Records to take, guessed from those that are taken; None if there
        is nothing to go by."""
        if not self.to_take:
            return 0
        taken = [piece for piece in self.slices if piece.state == "taken" and piece.records is not None]
        sized = [piece for piece in taken if piece.bytes]
        if sized and self.bytes is not None:
            per_byte = sum(piece.records for piece in sized) / sum(piece.bytes for piece in sized)
            return round(per_byte * self.bytes)
        if taken:
            return round(sum(piece.records for piece in taken) / len(taken) * len(self.to_take))
        return None

    def by(self, captured: str) -> Dict[str, List[Slice]]:
        """The slices by a part of their names: ``plan.by("section_id")``."""
        groups: Dict[str, List[Slice]] = {}
        for piece in self.slices:
            groups.setdefault(str(piece.captured.get(captured, "")), []).append(piece)
        return groups

    def to_pandas(self):
        """A data frame: a row for each slice, a column for each captured part."""
        pandas = shown.pandas()
        rows = []
        for piece in self.slices:
            row = {
                "name": piece.name, "state": piece.state, "date": piece.date, "bytes": piece.bytes,
                "records": piece.records, "taken_at": piece.taken_at, "reason": piece.reason,
            }
            rows.append({**row, **{name: value for name, value in piece.captured.items() if name not in row}})
        frame = pandas.DataFrame(rows)
        for column in ("date", "taken_at"):
            if column in frame:
                frame[column] = pandas.to_datetime(frame[column], utc=True, format="ISO8601")
        for column in ("bytes", "records"):
            if column in frame:
                frame[column] = frame[column].astype("Int64")
        return frame

    def _rows(self):
        for state, count in self.counts.items():
            if count:
                of_state = [piece for piece in self.slices if piece.state == state]
                known = [piece.bytes for piece in of_state if piece.bytes is not None]
                records = [piece.records for piece in of_state if piece.records is not None]
                volume = shown.size(sum(known)) if known else "?"
                yield STATES.get(state, state), count, volume, sum(records) if records else None

    def _summary(self) -> str:
        if not self.slices:
            return f"{self.source}: nothing that is meant is there"
        text = f"{self.source}: {shown.plural(len(self.to_take), 'slice')} to take"
        if self.to_take:
            guess = self.estimated_records
            text += f", {shown.size(self.bytes)}" + (f", about {guess:,} records" if guess is not None else "")
        if self.wanted.get("from") or self.wanted.get("to"):
            text += f"; from {self.wanted.get('from', 'the first')} to before {self.wanted.get('to', 'now')}"
            text += f" ({self.dates})" if self.dates else ""
        return text

    def __len__(self) -> int:
        return len(self.slices)

    def __str__(self) -> str:
        table = shown.text_table(["what", "slices", "size", "records"], self._rows())
        return f"{self._summary()}\n{table}" if self.slices else self._summary()

    def __repr__(self) -> str:
        return f"<Plan {self._summary()}>"

    def _repr_html_(self) -> str:
        return shown.html_table(["what", "slices", "size", "records"], self._rows(), self._summary())
