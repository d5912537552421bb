"""Finding the service of a configuration file or of a state directory: it
holds a lock there, and the lock file says where it listens."""

import fcntl
import json
import os
import pathlib
import re
import ssl
from typing import Optional, Union

from .connection import Address
from .errors import NotRunning

Path = Union[str, "os.PathLike[str]"]

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}:]+)(?::-([^}]*))?\}")
_LOOPBACK = re.compile(r"https://(127\.|\[::1\])")


def running(state: Path) -> Address:
    """The service that works on ``state``."""
    folder = pathlib.Path(state)
    lock = folder / "lock"
    try:
        with open(lock, encoding="utf-8") as file:
            if not _is_held(file):
                raise NotRunning(f"no service runs on {folder}: `lakeward run`, or lakeward.Client.start(…)")
            holder = json.loads(file.read() or "{}")
    except FileNotFoundError:
        raise NotRunning(f"no service ever ran on {folder}: `lakeward run`, or lakeward.Client.start(…)") from None
    except PermissionError:
        raise NotRunning(f"{lock} is readable by the service's user only; give `url` and `token` instead") from None
    except ValueError:
        holder = {}
    if not isinstance(holder, dict) or not holder.get("control"):
        raise NotRunning(f"the service on {folder} is starting")
    url = holder["control"]
    trust = None
    if _LOOPBACK.match(url):
        # The certificate names the service's public name; the token in the
        # owner-only file is what proves who we talk to.
        trust = ssl.create_default_context()
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
    return Address(url, holder.get("token"), trust)


def _is_held(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def state_of(config: Path) -> pathlib.Path:
    """The state directory that a configuration file names; ``state`` beside
    the file if it names none."""
    file = pathlib.Path(config)
    text = file.read_text(encoding="utf-8")
    state = _state(text)
    return file.parent / _expanded(state if state is not None else "./state")


def _state(text: str) -> Optional[str]:
    try:
        # JSON is YAML.
        settings = json.loads(text)
    except ValueError:
        try:
            import yaml
        except ImportError:
            return _top_level(text)
        settings = yaml.safe_load(text)
    state = settings.get("state") if isinstance(settings, dict) else None
    return state if isinstance(state, str) else None


def _top_level(text: str) -> Optional[str]:
    """The key as people write it: on a line of its own, at its start."""
    found = re.search(r"""^state:[ \t]*(?:"([^"\n]*)"|'([^'\n]*)'|([^\s#][^#\n]*?))[ \t]*(?:#.*)?$""", text, re.M)
    return next((part for part in found.groups() if part), None) if found else None


def _expanded(text: str) -> str:
    def value(match):
        name, default = match.groups()
        if name is None:
            return "${"
        given = os.environ.get(name, default)
        if given is None:
            raise ValueError(f"`state` of the configuration names {name}, which is not set")
        return given

    return _VARIABLE.sub(value, text)
