"""The virtual environment of the libraries that ours is compared with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

# PyTorch's CPU wheels count as newer than those of the same version with CUDA, so that they
# are taken where pip is shown them; on CPU both run alike.
PEERS = ("torch==2.13.0", "implicit==0.7.3", "lenskit==2025.8.1")
# RecBole asks for ray, plotly, thop and others that nothing here imports, and for old versions.
RECBOLE = "recbole==1.2.1"
NEEDED_BY_RECBOLE = ("colorama", "colorlog", "pandas", "PyYAML", "scikit-learn", "tensorboard",
                     "texttable", "tqdm")  # fmt: skip


def default_folder() -> Path:
    """Where the environment goes if nobody says."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "autosample-tf" / "peers"


def peer_python(folder: Path, pip_options: Sequence[str]) -> Path:
    """The environment's Python, made and filled first where that is not done.

    Args:
      folder: of the environment.
      pip_options: more options of `pip install`, as an index of PyTorch's CPU wheels.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = "\n".join((*PEERS, RECBOLE, *NEEDED_BY_RECBOLE))
    installed = folder / "installed.txt"
    if not installed.is_file() or installed.read_text() != wanted:
        print(f"Installing the peers in {folder}, once.", file=sys.stderr)
        venv.create(folder, with_pip=True, symlinks=os.name != "nt")
        install = [str(python), "-m", "pip", "install", "--quiet", *pip_options]
        subprocess.run([*install, *PEERS, *NEEDED_BY_RECBOLE], check=True)
        subprocess.run([*install, "--no-deps", RECBOLE], check=True)
        installed.write_text(wanted)
    return python


def versions(python: str | Path, names: Sequence[str]) -> dict[str, str]:
    """What an environment has of some distributions."""
    code = (
        "import importlib.metadata as m, json, sys;"
        "print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    )
    done = subprocess.run(
        [str(python), "-c", code, *names], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
