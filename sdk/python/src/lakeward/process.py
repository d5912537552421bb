"""A service that this program starts and stops."""

import atexit
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
from typing import Optional

from .errors import NotRunning
from .finding import Path

#: What of its log an error shows.
_SHOWN = 2_000


def program(binary: Optional[Path]) -> str:
    """The program: as given, ``$LAKEWARD_BIN``, or the one on the path."""
    wanted = str(binary or os.environ.get("LAKEWARD_BIN") or "lakeward")
    found = shutil.which(wanted)
    if found is None:
        raise NotRunning(f"there is no program {wanted}: give `binary`, or set LAKEWARD_BIN")
    return found


class Service:
    """``lakeward run``, until it is stopped."""

    def __init__(self, config: Path, binary: Optional[Path], timeout: float):
        command = [program(binary), "run", "--json", "-c", str(config)]
        self._log = tempfile.TemporaryFile()
        # In a session of its own: an interrupt of the notebook is not its end.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log,
            cwd=pathlib.Path(config).resolve().parent, start_new_session=True,
        )
        # A program that ends without a word to it does not leave it behind.
        atexit.register(self.stop, 60.0)
        said = _members(self._first_line(timeout))
        if "listening" not in said:
            self.stop(1.0)
            why = said.get("error") or self.log() or f"it said nothing within {timeout} s"
            raise NotRunning(f"`lakeward run -c {config}` did not start:\n{why}")
        self.url = said["listening"]

    def _first_line(self, timeout: float) -> bytes:
        lines = []
        reader = threading.Thread(target=lambda: lines.append(self._process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(timeout)
        return lines[0] if lines else b""

    def log(self) -> str:
        """The end of what it wrote."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _SHOWN))
        return self._log.read().decode("utf-8", "replace").strip()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self, timeout: float) -> None:
        """Delivers what is pending and ends. What is not delivered in time
        stays in the journal for the next start."""
        atexit.unregister(self.stop)
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                # A supported way to stop: nothing that was acknowledged is lost.
                self._process.kill()
                self._process.wait()
        self._process.stdout.close()


def _members(line: bytes) -> dict:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
