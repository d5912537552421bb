"""A run: a request to take or to count slices. It is durable in the service
and goes on whether or not anybody waits."""

import time
from typing import Any, Dict, Iterator, Optional
from urllib.parse import quote

from . import shown
from .connection import Connection
from .errors import Refused, RunFailed, Unavailable
from .progress import Progress, Wanted

_ENDED = ("done", "failed", "cancelled")
#: Seconds between two looks: the first and the longest.
_LOOK_FIRST, _LOOK_MAX = 0.05, 1.0
_PAGE = 1_000


class Run:
    """One run. Its numbers are those of the last look; ``refresh`` looks again."""

    def __init__(self, connection: Connection, answer: Dict[str, Any]):
        self._connection = connection
        self._answer = answer

    @property
    def id(self) -> str:
        return self._answer["id"]

    @property
    def source(self) -> str:
        return self._answer.get("source", "")

    @property
    def kind(self) -> str:
        """``take`` or ``count``."""
        return self._answer.get("kind", "")

    @property
    def state(self) -> str:
        """``waiting``, ``listing``, ``taking``, ``done``, ``failed`` or ``cancelled``."""
        return self._answer.get("state", "")

    @property
    def wanted(self) -> Dict[str, Any]:
        return self._answer.get("wanted") or {}

    @property
    def slices_known(self) -> int:
        """Slices that it has to do, as far as it knows yet."""
        return self._answer.get("slices") or 0

    @property
    def slices_done(self) -> int:
        return self._answer.get("slices_done") or 0

    @property
    def slices_already(self) -> int:
        """Slices that are meant and were taken before it."""
        return self._answer.get("slices_already") or 0

    @property
    def slices_not_ready(self) -> int:
        return self._answer.get("slices_not_ready") or 0

    @property
    def slices_set_aside(self) -> int:
        """Slices that could not be read; ``slices()`` has the reasons."""
        return self._answer.get("slices_set_aside") or 0

    @property
    def records(self) -> int:
        return self._answer.get("records") or 0

    @property
    def bytes(self) -> int:
        return self._answer.get("bytes") or 0

    @property
    def delivered(self) -> bool:
        """Whether all that it took is settled in every pipeline."""
        return bool(self._answer.get("delivered"))

    @property
    def error(self) -> Optional[Dict[str, str]]:
        return self._answer.get("error")

    @property
    def last_error(self) -> Optional[str]:
        """What went wrong last, also if it goes on."""
        return self._answer.get("last_error")

    @property
    def has_ended(self) -> bool:
        return self.state in _ENDED

    def to_dict(self) -> Dict[str, Any]:
        """All that the service says of it."""
        return dict(self._answer)

    def refresh(self) -> "Run":
        self._answer = self._connection.get(self._path)
        return self

    def cancel(self) -> "Run":
        """Stops it. What is taken stays taken; the next run goes on from there."""
        try:
            self._connection.json("DELETE", self._path)
        except Refused as error:
            if error.status != 409:
                raise
        return self.refresh()

    def wait(self, timeout: Optional[float] = None, progress: Wanted = True, delivered: bool = True) -> "Run":
        """Waits until it has ended and, with ``delivered``, until all that it
        took is settled in every pipeline. An interrupt ends the waiting only.

        Raises ``RunFailed`` if it failed or was cancelled, ``Unavailable`` if
        it has not ended within ``timeout`` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        pause = _LOOK_FIRST
        shows = Progress(progress)
        try:
            while True:
                self.refresh()
                shows.show(self)
                if self.state in ("failed", "cancelled"):
                    raise RunFailed(self._why(), self)
                if self.has_ended and (not delivered or self.kind != "take" or self.delivered):
                    return self
                if until is not None and time.monotonic() >= until:
                    raise Unavailable(f"run {self.id} is still {self.state} after {timeout} s; it goes on: {self}")
                time.sleep(pause)
                pause = min(pause * 1.5, _LOOK_MAX)
        finally:
            shows.end()

    def slices(self) -> Iterator[Dict[str, Any]]:
        """What became of each slice: name, state (exported, empty, not_ready,
        failed, counted), records, bytes, reason."""
        after: Optional[str] = None
        while True:
            page = self._connection.get(f"{self._path}/slices", [("after", after), ("limit", _PAGE)])
            yield from page["slices"]
            after = page.get("next")
            if not after:
                return

    @property
    def _path(self) -> str:
        return f"/v1/runs/{quote(self.id, safe='')}"

    def _why(self) -> str:
        if self.state == "cancelled":
            return f"run {self.id} was cancelled; what it took stays taken"
        message = (self.error or {}).get("message") or self.last_error or "no reason is known"
        return f"run {self.id} failed: {message}"

    def __str__(self) -> str:
        verb = "counted" if self.kind == "count" else "taken"
        done = shown.plural(self.slices_done, "slice")
        if not self.has_ended:
            done = f"{self.slices_done + self.slices_already:,} of {shown.plural(self.slices_known, 'slice')}"
        text = f"{self.state}: {done} {verb}, {shown.plural(self.records, 'record')}, {shown.size(self.bytes)}"
        if self.slices_already:
            text += f", {self.slices_already:,} were taken before"
        if self.slices_not_ready:
            text += f", {self.slices_not_ready:,} not ready yet"
        if self.slices_set_aside:
            text += f", {self.slices_set_aside:,} set aside"
        if self.state == "done" and self.kind == "take":
            text += ", all delivered" if self.delivered else ", not all delivered yet"
        return text

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.source}: {self}>"

    def _repr_html_(self) -> str:
        shows = [name for name in self._answer if self._answer[name] not in (None, "", {}, [])]
        rows = [(name, self._answer[name]) for name in shows if name != "id"]
        return shown.html_table(["run", self.id], rows, f"{self.source}: {self}")
