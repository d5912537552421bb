"""What an evaluation becomes: one line of JSON."""

import json
import math
from datetime import datetime, timezone
from typing import Any, Dict, NamedTuple, Optional, Sequence

from . import attribute

#: What every event says of its maker; consumers filter by it.
METADATA = {"source": "launchdarkly-python-hook", "version": "1.0"}
#: Deeper values than this are cut, so that one that holds itself ends.
_DEPTH_MAX = 64


class Evaluation(NamedTuple):
    """What the hook takes note of."""

    time: float
    flag_key: str
    context: Any
    value: Any
    variation_index: Optional[int]
    reason: Dict[str, Any]


class Schema:
    """How evaluations are written."""

    def __init__(self, in_experiment_only: bool, private_attributes: Sequence[str], all_attributes_private: bool):
        self._in_experiment_only = in_experiment_only
        parsed = map(attribute.parse, private_attributes)
        self._private = [reference for reference in parsed if reference is not None]
        self._all_private = all_attributes_private

    def line(self, evaluation: Evaluation) -> bytes:
        """The event as a line with its newline."""
        event = self.event(evaluation)
        try:
            text = json.dumps(event, allow_nan=False)
        except (ValueError, TypeError, RecursionError):
            # NaN and Infinity are no JSON; nor is what only Python knows.
            text = json.dumps(_plain(event, 0), allow_nan=False)
        return text.encode("ascii") + b"\n"

    def event(self, evaluation: Evaluation) -> Dict[str, Any]:
        """The event with the fields that consumers know, in their order."""
        context, kinds = self._context(evaluation.context)
        event = {
            "timestamp": datetime.fromtimestamp(evaluation.time, timezone.utc).isoformat(),
            "flag_key": evaluation.flag_key,
            "evaluation_context": context,
            "flag_value": evaluation.value,
            "variation_index": evaluation.variation_index,
            "reason_kind": evaluation.reason.get("kind"),
            "context_kinds": kinds,
            "metadata": METADATA,
        }
        if not self._in_experiment_only:
            event["in_experiment"] = is_in_experiment(evaluation.reason)
        return event

    def _context(self, context: Any):
        if not context.valid:
            return {"key": "", "kind": ""}, []
        if not context.multiple:
            return attribute.redacted(context, self._private, self._all_private), [context.kind]
        out: Dict[str, Any] = {"key": "", "kind": "multi"}
        kinds = []
        for index in range(context.individual_context_count):
            single = context.get_individual_context(index)
            if single is not None:
                inner = attribute.redacted(single, self._private, self._all_private)
                kinds.append(inner.pop("kind"))
                out[single.kind] = inner
        return out, kinds


def is_in_experiment(reason: Dict[str, Any]) -> bool:
    """Whether the evaluation counts for an experiment."""
    return reason.get("inExperiment") is True


def _plain(value: Any, depth: int) -> Any:
    """``value`` with what JSON has: NaN and Infinity become null."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= _DEPTH_MAX:
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth + 1) for item in value]
    return str(value)
