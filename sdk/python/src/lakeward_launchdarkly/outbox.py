"""A bounded queue and the one thread that empties it."""

import atexit
import logging
import os
import random
import sys
import threading
import time
import uuid
import weakref
from collections import deque
from typing import Any, Callable, Deque, List, NamedTuple, Optional, Sequence

log = logging.getLogger("lakeward_launchdarkly")

#: Seconds before the first retry, doubled for each further one up to the last.
_PAUSE_MIN = 0.25
_PAUSE_MAX = 30.0
#: The longest wait that a server may ask for.
_ASKED_MAX = 300.0


class Outcome(NamedTuple):
    """What became of one attempt to send a batch."""

    #: Lines to send again: nothing says that they arrived.
    retry: Sequence[bytes] = ()
    #: How many lines were refused for good.
    rejected: int = 0
    #: Why, for the log.
    why: str = ""
    #: Seconds to wait before the next attempt, if the server said so.
    wait: Optional[float] = None


class Sender:
    """Where batches go."""

    def send(self, lines: Sequence[bytes], key: str) -> Outcome:
        """Tries once. ``key`` is the same for every attempt at a batch."""
        raise NotImplementedError

    def after_fork(self) -> None:
        """Forgets, in a forked child, the connections of its parent."""

    def close(self) -> None:
        """Lets connections go; nothing is sent afterwards."""


class Counters(NamedTuple):
    """Everything since the start of this process."""

    #: Evaluations that were to be sent.
    recorded: int
    #: Of these, those that the other side has.
    sent: int
    #: Of these, those that nobody will send any more, for whatever reason.
    dropped: int
    #: Of these, those that are on their way.
    pending: int
    #: Of the dropped: the queue was full, by events or by bytes.
    dropped_full: int
    #: Of the dropped: the other side refused them for good.
    dropped_rejected: int
    #: Of the dropped: the time to send them was over, or they came after it.
    dropped_closed: int
    #: Of the dropped: they could not be written as JSON.
    dropped_invalid: int
    #: Batches that were tried again.
    retries: int


class Outbox:
    """Takes lines without waiting and sends them from a thread of its own."""

    def __init__(
        self,
        sender: Sender,
        capacity: int,
        capacity_bytes: int,
        batch_records: int,
        batch_bytes: int,
        flush_interval: float,
        exit_timeout: float,
    ):
        self._sender = sender
        self._capacity = max(1, capacity)
        self._capacity_bytes = capacity_bytes
        self._batch_records = max(1, batch_records)
        self._batch_bytes = batch_bytes
        self._flush_interval = flush_interval
        self._exit_timeout = exit_timeout
        self._start_anew()
        _live.add(self)

    def _start_anew(self) -> None:
        # A condition's lock is reentrant: a signal handler may evaluate flags.
        self._wake = threading.Condition()
        self._queue: Deque[bytes] = deque()
        self._queue_bytes = 0
        self._thread: Optional[threading.Thread] = None
        self._oldest = 0.0
        self._in_flight = 0
        self._flushing = 0
        self._closing = False
        self._deadline = float("inf")
        self._is_abandoned = False
        self._taken = self._settled = 0
        self._recorded = self._sent = self._retries = 0
        self._full = self._rejected = self._closed = self._invalid = 0
        self._has_warned = set()

    def put(self, line: bytes) -> bool:
        """Takes a line, or counts it as dropped. Never waits for the network,
        and raises nothing: what it took counts once."""
        is_sent = True
        with self._wake:
            self._recorded += 1
            if self._closing:
                self._closed += 1
                return False
            is_full = self._queue_bytes + len(line) > self._capacity_bytes
            if is_full or len(self._queue) >= self._capacity:
                self._full += 1
                return False
            was = len(self._queue), self._queue_bytes
            self._queue.append(line)
            self._queue_bytes += len(line)
            self._taken += 1
            if was[0] == 0:
                self._oldest = time.monotonic()
            if self._thread is None:
                is_sent = self._start_thread()
            elif was[0] in (0, self._batch_records - 1) or was[1] < self._batch_bytes <= self._queue_bytes:
                self._wake.notify_all()
        if not is_sent:
            self._warn("thread", "no thread can be started: events wait for the next attempt")
        return True

    def invalid(self, error: Exception) -> None:
        """Counts what could not even be put."""
        with self._wake:
            self._recorded += 1
            self._invalid += 1
        self._warn("invalid", "an event could not be written as JSON: %r", error)

    def _start_thread(self) -> bool:
        """Whether there is one now. A machine may have no thread to give, for a
        while: what was put waits, and the next one asks again."""
        thread = threading.Thread(target=self._run, name="lakeward-launchdarkly", daemon=True)
        try:
            thread.start()
        except Exception:  # pylint: disable=broad-except
            return False
        self._thread = thread
        processes = sys.modules.get("multiprocessing")
        if processes is not None and processes.parent_process() is not None:
            # Such a process ends without `atexit`.
            from multiprocessing.util import Finalize

            Finalize(None, self.close_at_exit, exitpriority=1)
        return True

    def flush(self, timeout: Optional[float]) -> bool:
        """Waits until all that was put before is sent or dropped; whether it is."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        with self._wake:
            target = self._taken
            if self._queue and self._thread is None and not self._start_thread():
                # Nobody would ever wake us.
                return False
            self._flushing += 1
            self._wake.notify_all()
            try:
                while self._settled < target:
                    left = end - time.monotonic()
                    if left <= 0:
                        return False
                    self._wake.wait(min(left, threading.TIMEOUT_MAX))
                return True
            finally:
                self._flushing -= 1

    def close(self, timeout: Optional[float]) -> bool:
        """Sends what is left within ``timeout`` seconds; whether all got through."""
        timeout = self._exit_timeout if timeout is None else timeout
        with self._wake:
            if self._queue and self._thread is None and not self._closing:
                self._start_thread()
            thread = self._thread
            if not self._closing:
                self._closing = True
                self._deadline = time.monotonic() + timeout
            self._wake.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, self._deadline - time.monotonic()))
        with self._wake:
            left = len(self._queue) + self._in_flight
            if left:
                # Perhaps the last batch arrived: nobody knows, so it counts as
                # dropped.
                self._is_abandoned = True
                self._closed += left
                self._settled += left
                self._queue.clear()
                self._queue_bytes = 0
                self._in_flight = 0
                self._wake.notify_all()
        if left:
            self._warn("closed", "%d events were not sent before the end", left)
        if thread is None or not thread.is_alive():
            self._sender.close()
        return left == 0

    def close_at_exit(self) -> None:
        self.close(self._exit_timeout)

    def after_fork(self) -> None:
        """In a forked child: the parent sends what the parent took."""
        self._start_anew()
        self._sender.after_fork()

    def counters(self) -> Counters:
        with self._wake:
            return Counters(
                recorded=self._recorded,
                sent=self._sent,
                dropped=self._full + self._rejected + self._closed + self._invalid,
                pending=len(self._queue) + self._in_flight,
                dropped_full=self._full,
                dropped_rejected=self._rejected,
                dropped_closed=self._closed,
                dropped_invalid=self._invalid,
                retries=self._retries,
            )

    def _run(self) -> None:
        while True:
            batch = self._take()
            # What is left after a failure is counted by `close`.
            if batch is None or not self._deliver(batch):
                return

    def _take(self) -> Optional[List[bytes]]:
        """The next batch, when there is enough or it is old enough."""
        with self._wake:
            while True:
                if self._queue:
                    age = time.monotonic() - self._oldest
                    is_due = self._closing or self._flushing or age >= self._flush_interval
                    if is_due or len(self._queue) >= self._batch_records or self._queue_bytes >= self._batch_bytes:
                        break
                    self._wake.wait(self._flush_interval - age)
                elif self._closing:
                    return None
                else:
                    self._wake.wait()
            batch = [self._queue.popleft()]
            size = len(batch[0])
            while self._queue and len(batch) < self._batch_records:
                if size + len(self._queue[0]) > self._batch_bytes:
                    break
                size += len(self._queue[0])
                batch.append(self._queue.popleft())
            self._queue_bytes -= size
            self._oldest = time.monotonic()
            self._in_flight = len(batch)
            return batch

    def _deliver(self, lines: Sequence[bytes]) -> bool:
        """Sends a batch, again and again until it is there or refused; whether
        there was time for it."""
        key = str(uuid.uuid4())
        pause = _PAUSE_MIN
        while not self._is_abandoned:
            try:
                outcome = self._sender.send(lines, key)
            except Exception as error:  # pylint: disable=broad-except
                outcome = Outcome(retry=lines, why=repr(error))
            if not isinstance(outcome, Outcome):
                outcome = Outcome(retry=lines, why=f"the sender returned {type(outcome).__name__} and no Outcome")
            done = len(lines) - len(outcome.retry)
            self._settle(sent=done - outcome.rejected, rejected=outcome.rejected)
            if outcome.rejected:
                self._warn("rejected", "%d events were refused for good: %s", outcome.rejected, outcome.why)
            if not outcome.retry:
                return True
            lines = outcome.retry
            self._warn("retry", "%d events are sent again: %s", len(lines), outcome.why)
            with self._wake:
                self._retries += 1
            wait = pause * random.uniform(0.5, 1.0)
            if outcome.wait is not None:
                wait = max(wait, min(outcome.wait, _ASKED_MAX))
            pause = min(pause * 2, _PAUSE_MAX)
            if not self._pause(wait):
                break
        return False

    def _pause(self, seconds: float) -> bool:
        """Waits, shorter when the end has begun; whether there is time left."""
        end = time.monotonic() + seconds
        with self._wake:
            was_closing = self._closing
            while not self._is_abandoned:
                now = time.monotonic()
                if now >= self._deadline:
                    return False
                if now >= end or (self._closing and not was_closing):
                    return True
                self._wake.wait(min(end, self._deadline) - now)
        return False

    def _settle(self, sent: int = 0, rejected: int = 0) -> None:
        with self._wake:
            if self._is_abandoned:
                return
            self._sent += sent
            self._rejected += rejected
            done = sent + rejected
            self._in_flight -= done
            self._settled += done
            self._wake.notify_all()

    def _warn(self, what: str, message: str, *arguments: Any) -> None:
        """Says it once; the counters say how often."""
        if what not in self._has_warned:
            self._has_warned.add(what)
            log.warning(message + " (said once; see the counters)", *arguments)


_live: "weakref.WeakSet[Outbox]" = weakref.WeakSet()


def _each(do: Callable[[Outbox], Any]) -> None:
    for outbox in list(_live):
        try:
            do(outbox)
        except Exception:  # pylint: disable=broad-except
            log.exception("an outbox failed")


atexit.register(_each, Outbox.close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _each(Outbox.after_fork))
