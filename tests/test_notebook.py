"""`examples/bulk_backfill.ipynb` runs from its first cell to its last, and what
is committed of its output tells nothing of the machine that it ran on."""

import os
import re

import nbclient
import nbformat

import service

NOTEBOOK = service.ROOT / "examples/bulk_backfill.ipynb"


def outputs(notebook):
    """Text of every output, by cell."""
    for at, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            assert output.output_type != "error", (at, output)
            if output.output_type == "stream":
                yield at, output.name, output.text
            else:
                for kind, text in output.data.items():
                    yield at, kind, text


def printed(notebook):
    """What each cell printed, in however many pieces it came."""
    cells = {}
    for at, kind, text in outputs(notebook):
        if kind == "stdout":
            cells[at] = cells.get(at, "") + text
    return cells


def test_it_runs_and_says_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("LAKEWARD_BIN", str(service.PROGRAM))
    monkeypatch.setenv("PYTHONPATH", str(service.ROOT / "sdk/python/src"))
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "TMPDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    committed = nbformat.read(NOTEBOOK, as_version=4)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert printed(notebook) == printed(committed)
    assert [at for at, kind, _ in outputs(notebook) if kind == "stderr"] == []
    # It cleans up behind itself.
    assert not list(tmp_path.glob("lakeward-*"))


def test_what_is_committed_is_of_no_machine():
    committed = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(committed)
    texts = [text for _, kind, text in outputs(committed) if not kind.startswith("image/")]
    assert len(texts) > 10 and any(kind == "image/png" for _, kind, _ in outputs(committed))
    for text in texts:
        assert not re.search(r"/(tmp|home|root|work|Users)/|127\.0\.0\.1:\d|://[\w.]*registry", text), text
    assert all(cell.get("execution_count") for cell in committed.cells if cell.cell_type == "code")
    assert os.path.getsize(NOTEBOOK) < 300_000
