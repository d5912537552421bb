"""Requests to the control API, again and again until they are answered. That
is safe, because all of them may be repeated."""

import http.client
import json
import random
import ssl
import time
from typing import Any, Callable, Mapping, Optional, Tuple
from urllib.parse import urlencode, urlsplit

from .errors import DataError, InterruptedAnswer, LakewardError, NotRunning, Refused, Unavailable

#: Statuses after which the same request may go through.
_PASSING = frozenset([408, 425, 429, 502, 503, 504])
#: The longest pause between two attempts, in seconds.
_PAUSE_MAX = 5.0


class Address:
    """Where a service is, and how one gets in."""

    def __init__(self, url: str, token: Optional[str] = None, trust: Optional[ssl.SSLContext] = None):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:7171")
        self.url = url.rstrip("/")
        self.host, self.port, self.path = parts.hostname, parts.port, parts.path.rstrip("/")
        self.is_tls = parts.scheme == "https"
        self.token = token
        self.trust = trust

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        if not self.is_tls:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        trust = self.trust or ssl.create_default_context()
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=trust)

    def __repr__(self) -> str:
        return f"Address({self.url!r})"


class Connection:
    """Asks the service that ``find`` finds, anew for every attempt: one that
    was restarted may listen elsewhere.

    :param find: gives the address, or raises ``NotRunning``
    :param timeout: seconds until an attempt is given up
    :param patience: seconds for which failed attempts are repeated
    """

    def __init__(self, find: Callable[[], Address], timeout: float, patience: float):
        self._find = find
        self._timeout = timeout
        self._patience = patience

    def get(self, path: str, parameters: Any = ()) -> Any:
        query = urlencode([(name, value) for name, value in parameters if value is not None])
        return self.json("GET", f"{path}?{query}" if query else path)

    def json(self, method: str, path: str, body: Any = None, again: Optional[Callable[[], Any]] = None) -> Any:
        """The decoded answer. After an attempt whose answer was lost ``again``
        is asked first; what it gives, if anything, is the answer."""
        answer, _ = self.ask(method, path, body, again)
        return _decoded(answer) if isinstance(answer, bytes) else answer

    def ask(
        self, method: str, path: str, body: Any = None, again: Optional[Callable[[], Any]] = None
    ) -> Tuple[Any, Mapping[str, str]]:
        """The answer as bytes, and its headers."""
        until = time.monotonic() + self._patience
        pause, lost = 0.1, False
        while True:
            wait: Optional[float] = None
            try:
                if lost and again is not None:
                    known = again()
                    if known is not None:
                        return known, {}
                status, headers, answer = self._once(method, path, body)
            except NotRunning as error:
                failure: LakewardError = error
            except http.client.IncompleteRead:
                failure = InterruptedAnswer(
                    "the answer broke off: the service failed or stopped half-way; its log says why"
                )
            except (OSError, http.client.HTTPException) as error:
                lost = True
                failure = Unavailable(f"the service does not answer: {type(error).__name__}: {error}")
            else:
                if 200 <= status < 300:
                    return answer, headers
                failure = refusal(status, answer)
                if status not in _PASSING:
                    raise failure
                wait = _seconds(headers.get("Retry-After"))
            # Many who wait for one service do not come back all at once.
            pause = min(pause * 2, _PAUSE_MAX) * random.uniform(0.7, 1.0)
            if time.monotonic() + max(pause, wait or 0.0) > until:
                raise failure
            time.sleep(max(pause, wait or 0.0))

    def _once(self, method: str, path: str, body: Any) -> Tuple[int, Mapping[str, str], bytes]:
        address = self._find()
        headers = {"Accept": "*/*", "User-Agent": "lakeward-python/0.1.0"}
        if address.token:
            headers["Authorization"] = f"Bearer {address.token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = address.connect(self._timeout)
        try:
            connection.request(method, address.path + path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()


def refusal(status: int, body: bytes) -> LakewardError:
    """The error that an answer stands for."""
    code, message = "", body[:500].decode("utf-8", "replace").strip()
    try:
        error = json.loads(body)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        pass
    if status == 401:
        message += "; give `token`, one of the service's auth.bearer_tokens"
    if status in _PASSING or status >= 500:
        return Unavailable(f"{message} ({status})")
    kind = DataError if code == "query_data" else Refused
    return kind(message, status, code)


def _decoded(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError as error:
        shown = answer[:200].decode("utf-8", "replace")
        raise Unavailable(f"this does not answer like a Lakeward service: {shown}") from error


def _seconds(text: Optional[str]) -> Optional[float]:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
