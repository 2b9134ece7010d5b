"""Runs docs/tutorial.ipynb, or another notebook, anew and stores what it prints and draws.

python scripts/tutorial.py [path/to/notebook.ipynb]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs, but what goes to stderr: that is the machine's own."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # which the kernel inherits
    NotebookClient(notebook, timeout=300, record_timing=False).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}  # without the version
    return notebook


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else TUTORIAL
    nbformat.write(executed(path), path)
