"""Lakeward from Python: see what a source has, take it, check it, ask it.

    import lakeward

    lake = lakeward.Client(config="lakeward.yaml")
    plan = lake.plan("events", from_="2026-01-01", to="2026-02-01", where={"section_id": 145})
    lake.apply(plan)
    lake.verify("events", from_="2026-01-01", to="2026-02-01").ok
    lake.query("SELECT verb, count(*) AS n FROM events GROUP BY verb").to_pandas()

Nothing but the standard library is needed; what query results become
(pandas, Arrow, polars) is what you have installed.
"""

from .client import Client
from .errors import DataError, InterruptedAnswer, LakewardError, NotRunning, Refused, RunFailed, Unavailable
from .plan import Plan, Slice
from .result import QueryResult
from .run import Run
from .status import Status, Table
from .verify import Difference, Report

__version__ = "0.1.0"

__all__ = [
    "Client", "DataError", "Difference", "InterruptedAnswer", "LakewardError", "NotRunning", "Plan", "QueryResult",
    "Refused", "Report", "Run", "RunFailed", "Slice", "Status", "Table", "Unavailable",
]
