"""Every notebook runs from top to bottom in a fresh kernel of this interpreter."""

import json
import pathlib
import sys

import jax.numpy as jnp
import nbformat
import numpy as np
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

from limjax.limits import bounds
from limjax.physics import ArrheniusCell
from limjax.simulate import moving_trap_linear_work, moving_trap_optimum

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

# zmq and jupyter_client warn about event loops and paths of their own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


# A minute each.
@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=p.stem) for p in NOTEBOOKS],
)
def test_notebook_runs(path, tmp_path, monkeypatch):
    spec = tmp_path / "kernels" / "here"
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "here", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert "here" in KernelSpecManager().find_kernel_specs()
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    NotebookClient(notebook, kernel_name="here", timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()


def cells_of(path):
    return nbformat.read(path, as_version=4).cells


@pytest.mark.parametrize("path", [pytest.param(p, id=p.stem) for p in NOTEBOOKS])
def test_a_notebook_ends_with_an_exercise(path):
    cells = cells_of(path)
    assert cells[0].source.startswith("# ")
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert "## Exercise" in texts[-1] and sum("## Exercise" in text for text in texts) == 1
    assert "<details>" not in texts[-1] or texts[-1].endswith("</details>")


def test_answers_of_the_exercises_are_right():
    """What the answers say in numbers, by the functions that the reader is sent to."""
    answers = {path.stem[:2]: cells_of(path)[-1].source for path in NOTEBOOKS[:5]}
    cell = ArrheniusCell(lsb=2**-10, attempt_rate=1e9, step_time=1e-3, temperature=300.0)
    barrier, wider = jnp.float32(13.857), jnp.float32(13.857 - np.log(4))
    heat, activity = float(cell.heat(1.0, barrier)), float(cell.activity(1.0, barrier))
    assert heat == pytest.approx(1, abs=1e-3) and "13.86$ kT" in answers["01"]
    assert f"{activity:.2f}$ levels²" in answers["01"]
    assert float(cell.heat(1.0, wider)) == pytest.approx(0.25, abs=0.02) and "a quarter as dear" in answers["01"]
    assert f"{float(cell.activity(1.0, wider)) / activity:.1f} times" in answers["01"]
    saved = [1 - moving_trap_optimum(2.0, t)[0] / moving_trap_linear_work(2.0, t) for t in (0.1, 1.0, 4.0, 16.0)]
    assert "{:.1f}, {:.1f}, {:.1f} and {:.1f} %".format(*(100 * share for share in saved)) in answers["02"]
    assert f"{0.5 * np.log(10):.2f}$ kT" in answers["03"]
    more = bounds.convergence(4.0**9) - bounds.convergence(4.0**8)
    assert f"{float(more):.2f}$ kT per weight" in answers["04"]
