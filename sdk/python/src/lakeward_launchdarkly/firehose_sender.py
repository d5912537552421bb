"""To Firehose, or to anything that speaks its API (Lakeward does), by boto3."""

from typing import Any, Callable, List, Optional, Sequence

from .outbox import Outcome, Sender

#: Firehose's longest record, in bytes.
RECORD_BYTES_MAX = 1_024_000
#: Errors after which the same request may go through, beside all of 5xx.
_PASSING = frozenset(
    [
        "ServiceUnavailableException",
        "ServiceUnavailable",
        "InternalFailure",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestLimitExceeded",
        "SlowDown",
        "LimitExceededException",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
    ]
)


class FirehoseSender(Sender):
    """Puts batches with ``put_record_batch``, and again only what failed.

    Firehose knows no idempotency key: after a lost reply an event can arrive
    twice. Lakeward's HTTP door (:class:`HttpSender`) has no such gap.

    :param stream: the delivery stream's name
    :param client: a boto3 Firehose client; default one of the environment's
        region, credentials and endpoint (``AWS_ENDPOINT_URL_FIREHOSE``)
    :param client_factory: makes the client when the first batch is sent, and
        anew in a forked child
    """

    def __init__(
        self,
        stream: str = "launchdarkly-experiments-stream",
        *,
        client: Any = None,
        client_factory: Optional[Callable[[], Any]] = None,
    ):
        self._stream = stream
        self._client = client
        self._is_given = client is not None
        self._factory = client_factory or _default_client

    def send(self, lines: Sequence[bytes], key: str) -> Outcome:
        fitting = [line for line in lines if len(line) <= RECORD_BYTES_MAX]
        too_long = len(lines) - len(fitting)
        if not fitting:
            return Outcome(rejected=too_long, why="a record is longer than Firehose takes")
        try:
            if self._client is None:
                self._client = self._factory()
            reply = self._client.put_record_batch(
                DeliveryStreamName=self._stream, Records=[{"Data": line} for line in fitting]
            )
        except Exception as error:  # pylint: disable=broad-except
            why = f"{type(error).__name__}: {error}"
            if _passes(error):
                return Outcome(retry=fitting, rejected=too_long, why=why)
            return Outcome(rejected=len(lines), why=why)
        failed: List[bytes] = []
        why = "a record is longer than Firehose takes" if too_long else ""
        if reply.get("FailedPutCount"):
            for line, entry in zip(fitting, reply["RequestResponses"]):
                if entry.get("ErrorCode"):
                    failed.append(line)
                    why = f"{entry['ErrorCode']}: {entry.get('ErrorMessage', '')}"
        return Outcome(retry=failed, rejected=too_long, why=why)

    def after_fork(self) -> None:
        if not self._is_given:
            self._client = None


def _default_client() -> Any:
    try:
        import boto3
    except ImportError as error:
        raise RuntimeError("pip install 'lakeward[firehose]'") from error
    return boto3.client("firehose")


def _passes(error: Exception) -> bool:
    """Whether another attempt may go through."""
    reply = getattr(error, "response", None)
    if isinstance(reply, dict):
        status = reply.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or reply.get("Error", {}).get("Code") in _PASSING
    # No answer: the network, credentials that are not there yet, no boto3.
    return type(error).__name__ != "ParamValidationError"
