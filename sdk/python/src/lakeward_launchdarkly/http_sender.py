"""To Lakeward's HTTP door, exactly once: a batch keeps its idempotency key
over all attempts."""

import gzip
import http.client
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Optional, Sequence
from urllib.parse import quote, urlsplit

from .outbox import Outcome, Sender

#: Statuses after which the same request may go through.
_PASSING = frozenset([408, 425, 429])
#: The most that is read of an answer, and shown of it.
_ANSWER_BYTES = 64 << 10
_SHOWN = 300


class HttpSender(Sender):
    """Posts batches to ``{url}/v1/streams/{stream}/records``.

    :param url: Lakeward's address, for instance ``http://127.0.0.1:7171``
    :param stream: the stream
    :param token: one of Lakeward's ``auth.bearer_tokens``
    :param compress: whether to send gzip
    :param timeout: seconds to wait for a connection and for an answer
    :param ssl_context: for a private authority; default the system's
    """

    def __init__(
        self,
        url: str,
        stream: str = "launchdarkly-experiments-stream",
        *,
        token: Optional[str] = None,
        compress: bool = False,
        timeout: float = 10.0,
        ssl_context: Optional[ssl.SSLContext] = None,
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:7171")
        self._address = (parts.hostname, parts.port)
        self._path = f"{parts.path.rstrip('/')}/v1/streams/{quote(stream, safe='')}/records"
        self._headers = {"Content-Type": "application/x-ndjson", "User-Agent": "lakeward-launchdarkly-python/0.1.0"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._compress = compress
        self._timeout = timeout
        self._tls = (ssl_context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._connection: Optional[http.client.HTTPConnection] = None

    def send(self, lines: Sequence[bytes], key: str) -> Outcome:
        body = b"".join(lines)
        headers = {**self._headers, "Idempotency-Key": key}
        if self._compress:
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        # A kept connection may have been closed meanwhile; a new one tells.
        attempts = 2 if self._connection is not None else 1
        for attempt in range(attempts):
            try:
                status, wait, text = self._post(body, headers)
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if attempt == attempts - 1:
                    return Outcome(retry=lines, why=f"{type(error).__name__}: {error}")
        if 200 <= status < 300:
            return Outcome()
        why = f"{status} {text}"
        if status in _PASSING or status >= 500:
            return Outcome(retry=lines, why=why, wait=wait)
        return Outcome(rejected=len(lines), why=why)

    def _post(self, body: bytes, headers: dict):
        if self._connection is None:
            host, port = self._address
            if self._tls is None:
                self._connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
            else:
                self._connection = http.client.HTTPSConnection(
                    host, port, timeout=self._timeout, context=self._tls
                )
        self._connection.request("POST", self._path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read(_ANSWER_BYTES)
        status, wait = answer.status, _seconds(answer.getheader("Retry-After"))
        if not answer.isclosed():
            # There is more of it: this connection is of no further use.
            self.close()
        return status, wait, text[:_SHOWN].decode("utf-8", "replace").strip()

    def after_fork(self) -> None:
        # The socket belongs to the parent too; only this end is closed.
        self.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _seconds(text: Optional[str]) -> Optional[float]:
    """``Retry-After``: seconds, or a date."""
    if not text:
        return None
    try:
        return max(0.0, float(int(text)))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
