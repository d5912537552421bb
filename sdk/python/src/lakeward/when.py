"""Instants as people give them and as the service takes them."""

import datetime
import re
from typing import Optional, Union

When = Union[str, datetime.date, datetime.datetime]

_HOUR = re.compile(r"(\d{4})(\d{2})(\d{2})(?:T(\d{2}))?")


def instant(when: Optional[When]) -> Optional[str]:
    """RFC 3339 in UTC. A day is its first instant; without a zone UTC is meant.

    Takes ``date``, ``datetime``, and texts such as ``2026-03-01``,
    ``2026-03-01T05``, ``2026-03-01T05:30:00+01:00`` and ``20260301T05``.
    """
    if when is None:
        return None
    if isinstance(when, str):
        when = _read(when.strip())
    if not isinstance(when, datetime.datetime):
        when = datetime.datetime(when.year, when.month, when.day)
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.timezone.utc)
    when = when.astimezone(datetime.timezone.utc)
    fraction = f".{when.microsecond:06d}" if when.microsecond else ""
    return when.strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


def _read(text: str) -> datetime.datetime:
    compact = _HOUR.fullmatch(text)
    if compact:
        year, month, day, hour = (int(part or 0) for part in compact.groups())
        return datetime.datetime(year, month, day, hour)
    # What older releases of Python do not read: a Z, an hour alone, and other
    # fractions of a second than milliseconds and microseconds.
    plain = re.sub(r"[Zz]$", "+00:00", text)
    plain = re.sub(r"^(\d{4}-\d{2}-\d{2}[T ]\d{2})(?=$|[+-])", r"\1:00", plain)
    plain = re.sub(r"(?<=\d)\.(\d+)", lambda found: f".{found[1][:6]:0<6}", plain)
    try:
        return datetime.datetime.fromisoformat(plain)
    except ValueError:
        raise ValueError(f"{text!r} is no date such as 2026-03-01 or 2026-03-01T05:00:00Z") from None


def range_of(from_: Optional[When], to: Optional[When]) -> dict:
    """``from`` (inclusive) and ``to`` (exclusive), as far as they are given."""
    given = {"from": instant(from_), "to": instant(to)}
    if given["from"] and given["to"] and given["from"] >= given["to"]:
        raise ValueError(f"from_ ({given['from']}) is not before to ({given['to']}), which is exclusive")
    return {name: value for name, value in given.items() if value is not None}
