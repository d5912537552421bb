"""The tools that check `deploy/`: environments beside the tests' own in the
cache folder, made once and used again until their list of packages changes."""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

import service
import terraform_schema as terraform_schema_of

TESTS = pathlib.Path(__file__).resolve().parent


def cache():
    """The folder of `cargo xtask test`."""
    given = os.environ.get("LAKEWARD_CACHE")
    if given:
        return pathlib.Path(given)
    home = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(home) if home else pathlib.Path.home() / ".cache") / "lakeward"


def made(name, content, make):
    """The folder `name-<hash of content>`, made whole by `make`; others of that name go."""
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (wanted / "whole").exists():
            for old in folder.glob(f"{name}-*"):
                shutil.rmtree(old)
            make(wanted)
            (wanted / "whole").touch()
    return wanted


def python(name):
    """The `bin` folder of an environment with what `<name>-requirements.txt` lists."""
    requirements = TESTS / f"{name}-requirements.txt"

    def make(folder):
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "--disable-pip-version-check"]
        run(*pip, "install", "--quiet", "-r", requirements)
        share_copies(folder)

    return made(name, requirements.read_bytes(), make) / "bin"


def share_copies(folder):
    """A wheel knows no links, so libhelm lies there three times, 82 MB each."""
    seen = {}
    for library in sorted(folder.rglob("lib*.so*")):
        size = library.stat().st_size
        if size < 10_000_000 or library.is_symlink():
            continue
        with open(library, "rb") as file:
            key = (size, hashlib.file_digest(file, "sha256").digest())
        if key in seen:
            library.unlink()
            os.link(seen[key], library)
        else:
            seen[key] = library


def terraform_schema(folder):
    """The provider's schema for what the Terraform files in `folder` declare; None without npm."""
    if not shutil.which("npm"):
        return None
    wanted = terraform_schema_of.kinds(folder)
    reader = pathlib.Path(terraform_schema_of.__file__).read_bytes()

    def make(place):
        place.mkdir()
        run("npm", "pack", "--silent", terraform_schema_of.PACKAGE, cwd=place, env=dict(os.environ))
        archive = next(place.glob("*.tgz"))
        terraform_schema_of.write(archive, wanted, place / "schema.json")
        archive.unlink()

    return made("terraform", reader + repr(wanted).encode(), make) / "schema.json"


def tflint():
    """tflint as it is on the machine, or built once by its Go; None without Go."""
    found = shutil.which("tflint")
    if found or not shutil.which("go"):
        return found
    version = "github.com/terraform-linters/tflint@v0.64.0"

    def make(folder):
        # What only this build needs does not stay.
        only = folder / "build"
        places = {"GOBIN": str(folder), "GOMODCACHE": str(only / "modules"), "GOCACHE": str(only / "objects")}
        run("go", "install", version, env={**os.environ, **places, "GOFLAGS": "-modcacherw"}, timeout=1800)
        shutil.rmtree(only)

    return made("tflint", version.encode(), make) / "tflint"


def run(*command, check=True, cwd=None, env=None, text=None, timeout=600):
    """Runs a program to its end, without the machine's own AWS settings."""
    command = [str(part) for part in command]
    environment = {**service.ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"} if env is None else env
    done = subprocess.run(
        command, cwd=cwd, env=environment, input=text, capture_output=True, text=True, timeout=timeout
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done
