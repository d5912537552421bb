"""Attribute references, and contexts without what is private.

Source: the SDK's own events (``EventContextFormatter``): a private attribute is
left out and named in ``_meta.redactedAttributes``.
"""

import re
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

_BAD_ESCAPE = re.compile(r"~([^01]|$)")

#: A reference as it was written, and the path that it means.
Reference = Tuple[str, Tuple[str, ...]]


def parse(text: str) -> Optional[Reference]:
    """Reads ``name``, or ``/a/b`` where ``~1`` is a slash and ``~0`` a tilde.

    ``None`` for what is no reference: the SDK ignores these too.
    """
    if not isinstance(text, str) or text in ("", "/"):
        return None
    if text[0] != "/":
        return text, (text,)
    parts = text[1:].split("/")
    if any(part == "" or _BAD_ESCAPE.search(part) for part in parts):
        return None
    return text, tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def literal(name: str) -> str:
    """The reference that means the attribute of exactly this name."""
    if not name.startswith("/"):
        return name
    return "/" + name.replace("~", "~0").replace("/", "~1")


def redacted(context: Any, private: Sequence[Reference], all_private: bool) -> Dict[str, Any]:
    """One context of one kind, as JSON's types, without what is private."""
    references = list(private)
    references += [parsed for parsed in map(parse, context.private_attributes) if parsed is not None]
    hidden = {path[0] for _, path in references if len(path) == 1}
    nested = [reference for reference in references if len(reference[1]) > 1]
    out: Dict[str, Any] = {"key": context.key, "kind": context.kind}
    left_out: List[str] = []
    for name, value in _attributes(context):
        if all_private or name in hidden:
            left_out.append(literal(name))
        else:
            below = [reference for reference in nested if reference[1][0] == name]
            out[name] = _without(value, below, 1, left_out) if below else value
    if context.anonymous:
        out["anonymous"] = True
    if left_out:
        out["_meta"] = {"redactedAttributes": left_out}
    return out


def _attributes(context: Any) -> Iterable[Tuple[str, Any]]:
    if context.name is not None:
        yield "name", context.name
    for name in context.custom_attributes:
        yield name, context.get(name)


def _without(value: Any, references: Sequence[Reference], depth: int, left_out: List[str]) -> Any:
    """``value`` without what the references name; all of them lead here."""
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        here = [reference for reference in references if reference[1][depth] == key]
        whole = next((text for text, path in here if len(path) == depth + 1), None)
        if whole is not None:
            left_out.append(whole)
        else:
            deeper = [reference for reference in here if len(reference[1]) > depth + 1]
            kept[key] = _without(item, deeper, depth + 1, left_out) if deeper else item
    return kept
