"""How far a run is, for the person who waits."""

import sys
import time
from typing import Callable, Optional, TextIO, Union

from . import shown

#: Whether, and how: a function is called with the run at every look.
Wanted = Union[bool, Callable[["object"], None]]


class Progress:
    """A line that grows in a terminal; in a notebook or a file a line every
    few seconds, if something moved; a bar if tqdm is there and it is a terminal."""

    def __init__(self, wanted: Wanted, out: Optional[TextIO] = None, every: float = 5.0):
        self._call = wanted if callable(wanted) else None
        self._out = out or sys.stderr
        self._is_on = bool(wanted) and self._call is None
        self._is_terminal = self._is_on and getattr(self._out, "isatty", lambda: False)()
        self._every = every
        self._start = time.monotonic()
        self._last_line, self._last_at = "", self._start
        self._bar = self._tqdm() if self._is_terminal else None

    def _tqdm(self):
        try:
            from tqdm import tqdm
        except ImportError:
            return None
        return tqdm(unit=" slices", file=self._out, leave=False)

    def show(self, run) -> None:
        if self._call is not None:
            self._call(run)
        if self._bar is not None:
            self._bar.total = run.slices_known or None
            self._bar.set_postfix_str(f"{run.records:,} records, {shown.size(run.bytes)}", refresh=False)
            self._bar.update(run.slices_done + run.slices_already - self._bar.n)
            return
        line = self._line(run)
        now = time.monotonic()
        if not self._is_on or line == self._last_line:
            return
        if self._is_terminal:
            self._out.write("\r" + line.ljust(len(self._last_line)))
            self._out.flush()
        elif now - self._last_at >= self._every:
            print(line, file=self._out, flush=True)
            self._last_at = now
        self._last_line = line

    def _line(self, run) -> str:
        through = run.slices_done + run.slices_already
        done = f"{through:,} of {shown.plural(run.slices_known, 'slice')}"
        line = f"{run.state}: {done}, {run.records:,} records, {shown.size(run.bytes)}"
        took = time.monotonic() - self._start
        rate = run.slices_done / took if took > 0 else 0
        if 0 < through < run.slices_known and took > 2 and rate:
            line += f", about {(run.slices_known - through) / rate:,.0f} s left"
        return line + (f" ({run.last_error})" if run.last_error and not run.has_ended else "")

    def end(self) -> None:
        """Leaves the line as if it had never been: the run says how it ended."""
        if self._bar is not None:
            self._bar.close()
        elif self._is_terminal and self._last_line:
            self._out.write("\r" + " " * len(self._last_line) + "\r")
            self._out.flush()
