"""The client: one service, asked over its control API."""

import os
import pathlib
import time
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union
from urllib.parse import quote

from .connection import Address, Connection
from .errors import NotRunning, Refused, Unavailable
from .finding import Path, running, state_of
from .plan import Plan, Slice
from .process import Service
from .progress import Wanted
from .result import ARROW, NDJSON, QueryResult, best_format
from .run import Run
from .status import Status, Table
from .verify import Report, compare
from .when import When, instant, range_of

#: Slices asked for at a time.
_PAGE = 1_000


class Client:
    """Speaks with a running service, which it finds by, in this order,

    - ``url``, with ``token`` if the service wants one;
    - ``state``, the service's state directory, or ``config``, its file;
    - ``$LAKEWARD_URL`` and ``$LAKEWARD_TOKEN``;
    - ``lakeward.yaml`` in this folder.

    As a context manager it starts a service for ``config`` if none runs, and
    stops what it started.

    :param binary: the program to start; default ``$LAKEWARD_BIN`` or ``lakeward``
    :param timeout: seconds until one attempt at a request is given up
    :param patience: seconds for which a request is repeated while the service
        cannot be reached or says that it is busy
    """

    def __init__(
        self,
        url: Optional[str] = None,
        token: Optional[str] = None,
        config: Optional[Path] = None,
        state: Optional[Path] = None,
        binary: Optional[Path] = None,
        *,
        timeout: float = 300.0,
        patience: float = 30.0,
    ):
        if url is None and config is None and state is None:
            url = os.environ.get("LAKEWARD_URL")
            token = token or os.environ.get("LAKEWARD_TOKEN")
            if url is None:
                config = "lakeward.yaml"
        self._address = Address(url, token) if url is not None else None
        self._config = config
        self._state = state
        self._binary = binary
        self._service: Optional[Service] = None
        self._connection = Connection(self._find, timeout, patience)

    # Which service

    @classmethod
    def start(cls, config: Path, binary: Optional[Path] = None, *, ready_within: float = 60.0, **settings) -> "Client":
        """Starts ``lakeward run`` and speaks with it. ``stop`` ends it, and so
        does the end of a ``with`` block."""
        client = cls(config=config, binary=binary, **settings)
        client._start(ready_within)
        return client

    def _start(self, ready_within: float) -> None:
        self._service = Service(self._config, self._binary, ready_within)

    def stop(self, timeout: float = 60.0) -> None:
        """Ends the service that this client started, if it did: what is
        pending is delivered, then it stops."""
        service, self._service = self._service, None
        if service is not None:
            service.stop(timeout)

    def __enter__(self) -> "Client":
        if self._service is None and self._address is None and self._config is not None:
            try:
                self._find()
            except NotRunning:
                self._start(60.0)
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def _find(self) -> Address:
        if self._address is not None:
            return self._address
        if self._service is not None and not self._service.is_running:
            raise NotRunning(f"the service has ended:\n{self._service.log()}")
        if self._state is None:
            try:
                self._state = state_of(self._config)
            except FileNotFoundError:
                message = f"there is no {self._config} here: give `url`, `config` or `state`"
                raise NotRunning(message) from None
        return running(self._state)

    @property
    def url(self) -> str:
        """Where the service listens."""
        return self._find().url

    def __repr__(self) -> str:
        try:
            return f"<lakeward.Client of {self.url}>"
        except NotRunning:
            return f"<lakeward.Client of {pathlib.Path(self._state or self._config or '').name}, which does not run>"

    # What there is

    def status(self) -> Status:
        """Every pipeline's and every source's numbers now."""
        return Status(self._connection.get("/v1/status"))

    def sources(self) -> List[Dict[str, Any]]:
        """Every source's numbers now."""
        return self.status().sources

    def pipelines(self) -> List[Dict[str, Any]]:
        """Every pipeline's numbers now."""
        return self.status().pipelines

    def slices(
        self,
        source: str,
        from_: Optional[When] = None,
        to: Optional[When] = None,
        where: Optional[Mapping[str, Any]] = None,
        prefix: str = "",
    ) -> Iterator[Slice]:
        """The slices of a source, or of a pipeline's source, as they come:
        in bounded memory however many there are."""
        name, _ = self._source_of(source)
        for page in self._pages(name, wanted(from_, to, where, prefix)):
            yield from map(Slice.of, page["slices"])

    def plan(
        self,
        target: str,
        from_: Optional[When] = None,
        to: Optional[When] = None,
        where: Optional[Mapping[str, Any]] = None,
        prefix: str = "",
    ) -> Plan:
        """What taking would mean; nothing is taken.

        :param target: a pipeline, or a source
        :param from_: the first date that is meant; ``Plan.dates`` says which date of a slice that is
        :param to: the first date that is not meant any more
        :param where: captured parts of the slices' names: ``{"section_id": 145}``
        :param prefix: what the slices' names start with
        """
        source, pipeline, meant = self._meant_by(target, from_, to, where, prefix)
        slices, dates = [], ""
        for page in self._pages(source, meant):
            dates = page.get("dates") or dates
            slices.extend(map(Slice.of, page["slices"]))
        return Plan(source, meant, slices, dates, pipeline)

    # What to do

    def apply(
        self,
        target: Union[Plan, str],
        from_: Optional[When] = None,
        to: Optional[When] = None,
        where: Optional[Mapping[str, Any]] = None,
        prefix: str = "",
        *,
        again: bool = False,
        replace: Union[bool, str] = False,
        wait: bool = True,
        progress: Wanted = True,
        timeout: Optional[float] = None,
    ) -> Run:
        """Takes what is meant and not taken yet, each slice once however often
        this is called, interrupted or killed.

        :param target: a plan; or a pipeline or source, with what is meant
        :param again: takes what is taken once more; the pipelines' dedup drops what
            they have. ``Refused`` where it would not, and rows would be doubled
        :param replace: takes it again and removes what the pipeline had of it, once
            the new is complete; True means the plan's pipeline
        :param wait: returns when all is delivered; else at once
        :param progress: shows how far it is; or a function that is called with the run
        :param timeout: seconds to wait at most; the run goes on anyway
        """
        source, pipeline, meant = self._meant_by(target, from_, to, where, prefix)
        request: Dict[str, Any] = {"kind": "take", "wanted": meant}
        if again:
            request["again"] = True
        if replace:
            request["replace"] = self._replaced(replace, pipeline, source)
        run = self._begin(source, request)
        return run.wait(timeout, progress) if wait else run

    def verify(
        self,
        target: Union[Plan, str],
        from_: Optional[When] = None,
        to: Optional[When] = None,
        where: Optional[Mapping[str, Any]] = None,
        prefix: str = "",
        *,
        progress: Wanted = True,
        timeout: Optional[float] = None,
    ) -> Report:
        """Counts at the source anew and compares, slice by slice, with what
        was taken and with what became of it in the pipelines. Nothing is
        taken. `lakeward backfill verify` also looks at the files."""
        source, pipeline, meant = self._meant_by(target, from_, to, where, prefix)
        run = self._begin(source, {"kind": "count", "wanted": meant})
        run.wait(timeout, progress)
        slices = [Slice.of(answer) for page in self._pages(source, meant) for answer in page["slices"]]
        pipelines = [pipeline] if pipeline else self._pipelines_of(source)
        return compare(source, slices, list(run.slices()), pipelines)

    def run(self, id: str) -> Run:
        """A run by its id."""
        return Run(self._connection, self._connection.get(f"/v1/runs/{quote(id, safe='')}"))

    def runs(self, source: Optional[str] = None) -> List[Run]:
        """The runs that the service remembers."""
        return [Run(self._connection, answer) for answer in self._runs(source)]

    # What is in the lake

    def query(self, sql: str, format: Optional[str] = None) -> QueryResult:
        """Asks what the pipelines have delivered: every pipeline is a table.

        :param format: ``arrow`` or ``ndjson``; default what fits what is installed
        """
        format = format or best_format()
        if format not in (ARROW, NDJSON):
            raise ValueError(f"format is {ARROW} or {NDJSON}, not {format!r}")
        body, _ = self._connection.ask("POST", "/v1/query", {"sql": sql, "format": format})
        return QueryResult(body, format)

    def tables(self) -> Dict[str, Table]:
        """The tables, by name."""
        answer = self._connection.get("/v1/tables")
        return {table["name"]: Table(**table) for table in answer["tables"]}

    def wait_until_delivered(self, timeout: float = 300.0) -> Status:
        """Waits until nothing that was accepted is pending."""
        until = time.monotonic() + timeout
        while True:
            status = self.status()
            pending = sum(pipeline.get("pending") or 0 for pipeline in status.pipelines)
            if pending == 0:
                return status
            if time.monotonic() >= until:
                raise Unavailable(f"{pending:,} records are still pending after {timeout} s")
            time.sleep(0.1)

    # How it is asked

    def _pages(self, source: str, meant: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
        parameters = [(name, meant.get(name)) for name in ("from", "to", "prefix")]
        parameters += [("where", f"{name}={value}") for name, value in meant.get("where", {}).items()]
        path, after = f"/v1/sources/{quote(source, safe='')}/slices", None
        while True:
            page = self._connection.get(path, parameters + [("after", after), ("limit", _PAGE)])
            yield page
            after = page.get("next")
            if not after:
                return

    def _begin(self, source: str, request: Dict[str, Any]) -> Run:
        """Starts a run, once also if an answer is lost: then a new one that is
        for the very same is looked for. If somebody else began that one, it is
        as good: the service answers an equal request with it, too."""
        before = {answer["id"] for answer in self._runs(source)}

        def begun():
            new = (answer for answer in self._runs(source) if answer["id"] not in before)
            return next((answer for answer in new if _is_for(answer, request)), None)

        path = f"/v1/sources/{quote(source, safe='')}/runs"
        return Run(self._connection, self._connection.json("POST", path, request, begun))

    def _runs(self, source: Optional[str]) -> List[Dict[str, Any]]:
        answer = self._connection.get("/v1/runs", [("source", source)])
        return answer["runs"] if isinstance(answer, dict) else answer

    def _meant_by(
        self,
        target: Union[Plan, str],
        from_: Optional[When],
        to: Optional[When],
        where: Optional[Mapping[str, Any]],
        prefix: str,
    ) -> Tuple[str, Optional[str], Dict[str, Any]]:
        """The source, the pipeline if one was named, and which slices."""
        if isinstance(target, Plan):
            if from_ is not None or to is not None or where or prefix:
                raise TypeError("a plan says already what is meant")
            return target.source, target.pipeline, target.wanted
        return (*self._source_of(target), wanted(from_, to, where, prefix))

    def _source_of(self, target: str) -> Tuple[str, Optional[str]]:
        """The source that a name means, and the pipeline if it is one's."""
        status = self.status()
        streams = {pipeline["pipeline"]: pipeline["stream"] for pipeline in status.pipelines}
        names = [source["source"] for source in status.sources]
        if target in streams:
            feeding = [source["source"] for source in status.sources if source["stream"] == streams[target]]
            if len(feeding) == 1:
                return feeding[0], target
            if target not in names:
                what = f"several sources feed it: {', '.join(feeding)}; say which" if feeding else "no source feeds it"
                raise Refused(f"pipeline {target}: {what}")
        if target in names:
            return target, None
        known = ", ".join(sorted(set(names) | set(streams))) or "none"
        raise Refused(f"there is no pipeline or source named {target}; there are: {known}")

    def _pipelines_of(self, source: str) -> List[str]:
        status = self.status()
        streams = {known["stream"] for known in status.sources if known["source"] == source}
        return [pipeline["pipeline"] for pipeline in status.pipelines if pipeline["stream"] in streams]

    def _replaced(self, replace: Union[bool, str], pipeline: Optional[str], source: str) -> str:
        if isinstance(replace, str):
            return replace
        known = [pipeline] if pipeline else self._pipelines_of(source)
        if len(known) != 1:
            raise Refused(f"say which pipeline's rows to replace: replace=… of {', '.join(known)}")
        return known[0]


def wanted(
    from_: Optional[When], to: Optional[When], where: Optional[Mapping[str, Any]], prefix: str
) -> Dict[str, Any]:
    """Which slices, as the service takes it."""
    meant: Dict[str, Any] = range_of(from_, to)
    if prefix:
        meant["prefix"] = prefix
    if where:
        meant["where"] = {str(name): str(value) for name, value in where.items()}
    return meant


def _is_for(answer: Dict[str, Any], request: Dict[str, Any]) -> bool:
    """Whether a run is one that this request would begin."""
    return (
        answer.get("kind") == request["kind"]
        and bool(answer.get("again")) == bool(request.get("again") or request.get("replace"))
        and (answer.get("replace") or None) == request.get("replace")
        and _meant(answer.get("wanted") or {}) == _meant(request["wanted"])
    )


def _meant(given: Dict[str, Any]) -> Dict[str, Any]:
    """Which slices, in one spelling: the service may give an instant in another
    one, and leave out what is open or say that it is."""
    where = {str(name): str(value) for name, value in (given.get("where") or {}).items()}
    meant = {"from": instant(given.get("from")), "to": instant(given.get("to"))}
    return {**meant, "prefix": given.get("prefix") or "", "where": where}
