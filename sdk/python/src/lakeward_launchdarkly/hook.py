"""The hook for ``ldclient.LDClient``."""

import time
from typing import Any, Optional, Sequence

from ldclient.hook import EvaluationSeriesContext, Hook, Metadata

from .event import Evaluation, Schema, is_in_experiment
from .outbox import Counters, Outbox, Sender

#: Firehose's limits for one request, which Lakeward takes too.
BATCH_RECORDS_MAX = 500
BATCH_BYTES_MAX = 4 << 20


class Recorder:
    """What the hooks for both kinds of clients share.

    :param sender: where events go
    :param in_experiment_only: whether evaluations outside of experiments are
        left out; if not, events also say ``in_experiment``
    :param private_attributes: attribute references (``email``,
        ``/address/city``) that no event has, beside those that a context itself
        calls private
    :param all_attributes_private: whether events have contexts' kinds and keys
        only
    :param capacity: how many events wait at most; further ones are dropped and
        counted
    :param capacity_bytes: how many bytes of them wait at most, so that large
        flag values do not fill the memory while the other side is away
    :param batch_records: how many are sent at once, at most 500
    :param batch_bytes: how many bytes are sent at once, at most 4 MiB
    :param flush_interval: seconds after which fewer are sent
    :param exit_timeout: seconds that the process's exit waits for what is left
    """

    def __init__(
        self,
        sender: Sender,
        *,
        in_experiment_only: bool = True,
        private_attributes: Sequence[str] = (),
        all_attributes_private: bool = False,
        capacity: int = 10_000,
        capacity_bytes: int = 64 << 20,
        batch_records: int = BATCH_RECORDS_MAX,
        batch_bytes: int = BATCH_BYTES_MAX,
        flush_interval: float = 1.0,
        exit_timeout: float = 5.0,
    ):
        self._in_experiment_only = in_experiment_only
        self._schema = Schema(in_experiment_only, private_attributes, all_attributes_private)
        self._outbox = Outbox(
            sender,
            capacity,
            capacity_bytes,
            min(batch_records, BATCH_RECORDS_MAX),
            min(batch_bytes, BATCH_BYTES_MAX),
            flush_interval,
            exit_timeout,
        )

    def record(self, series: EvaluationSeriesContext, detail: Any) -> None:
        """Takes note of an evaluation. Never waits, never raises."""
        try:
            reason = detail.reason or {}
            if self._in_experiment_only and not is_in_experiment(reason):
                return
            now = time.time()
            # Written now: contexts and values are the caller's, who may change
            # them, and only of a line the size is known. It takes 15 to 30 µs,
            # which another thread would take from this one as well.
            line = self._schema.line(
                Evaluation(now, series.key, series.context, detail.value, detail.variation_index, reason)
            )
        except Exception as error:  # pylint: disable=broad-except
            self._outbox.invalid(error)
            return
        self._outbox.put(line)

    @property
    def dropped(self) -> int:
        """How many events nobody will send any more."""
        return self._outbox.counters().dropped

    @property
    def counters(self) -> Counters:
        """What became of all events."""
        return self._outbox.counters()

    def flush(self, timeout: Optional[float] = None) -> bool:
        """Waits until everything recorded so far is sent or dropped.

        :param timeout: seconds; default for ever
        :return: whether it is
        """
        return self._outbox.flush(timeout)

    def close(self, timeout: Optional[float] = None) -> bool:
        """Sends what is left and stops; later evaluations count as dropped.

        :param timeout: seconds, after which the rest is dropped; default
            ``exit_timeout``
        :return: whether nothing had to be dropped for it
        """
        return self._outbox.close(timeout)


class LakewardHook(Recorder, Hook):
    """Sends what flags were evaluated to. See :class:`Recorder` for the
    settings."""

    @property
    def metadata(self) -> Metadata:
        """The hook's name."""
        return Metadata(name="lakeward-launchdarkly")

    def before_evaluation(self, series_context: EvaluationSeriesContext, data: dict) -> dict:
        """Nothing happens before."""
        return data

    def after_evaluation(self, series_context: EvaluationSeriesContext, data: dict, detail: Any) -> dict:
        """Takes note of the evaluation."""
        self.record(series_context, detail)
        return data
