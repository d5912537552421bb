"""The clients in `tests/java`: compiled once, run as processes."""

import functools
import os
import pathlib
import subprocess
import tempfile
import threading

from service import ROOT


def jars():
    """Where `cargo xtask test` put the jars, or where it last did."""
    if "LAKEWARD_TEST_JAVA" in os.environ:
        return pathlib.Path(os.environ["LAKEWARD_TEST_JAVA"])
    cache = pathlib.Path(os.environ.get("LAKEWARD_CACHE", pathlib.Path.home() / ".cache/lakeward"))
    return max(cache.glob("java-*"), key=lambda folder: folder.stat().st_mtime)


@functools.cache
def classes():
    folder = tempfile.TemporaryDirectory(prefix="lakeward-java-")
    sources = sorted(map(str, (ROOT / "tests/java/src").glob("*.java")))
    subprocess.run(["javac", "-cp", f"{jars()}/*", "-d", folder.name, *sources], check=True)
    return folder


class Client:
    """A running Java client; what it prints is in `lines`."""

    def __init__(self, name, *arguments):
        command = [
            "java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", f"{classes().name}:{jars()}/*", name, *map(str, arguments),
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines, self.errors = [], []
        self.readers = [
            threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True),
            threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    def said(self, what):
        """The words behind `what` of each line that starts with it."""
        return [line.split()[1:] for line in list(self.lines) if line.startswith(f"{what} ")]

    def stop(self, timeout=60):
        """Ends its input, on which it stops, and waits; everything that it said is in `lines` then."""
        self.process.stdin.close()
        self.wait(timeout)

    def wait(self, timeout=120):
        try:
            status = self.process.wait(timeout)
        finally:
            self.process.kill()
        for reader in self.readers:
            reader.join(timeout)
        assert status == 0, f"it ended with {status}:\n{''.join(self.errors[-60:])}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
