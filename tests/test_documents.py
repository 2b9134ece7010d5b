"""What the documents show is run: Python blocks, and every command's options."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from autosample_tf.cli import main
from autosample_tf.samplers import SAMPLERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = README + (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_search_from_python_runs(tmp_path: Path) -> None:
    code = blocks(README, "python")[0]
    assert '"path/to/gowalla"' in code
    quick = code.replace('"path/to/gowalla"', '"synthetic"').replace(
        'model="mf"', 'model="mf", search_epochs=1, retrain_epochs=1'
    )
    assert "dns:pool=32" in run_python(quick, tmp_path)


def test_the_readmes_own_loop_runs(tmp_path: Path) -> None:
    output = run_python(blocks(README, "python")[1], tmp_path)
    assert "ndcg@20" in output


def test_contributings_sampler_runs_by_its_spec(tmp_path: Path) -> None:
    code = blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "python")[0]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "samplers.py").write_text(code)
    search = (
        "import autosample_tf; print(autosample_tf.search('synthetic', autosample_tf.Settings("
        "samplers=('mine.samplers:Pairs:n=3',), search_epochs=1, retrain_epochs=1), "
        "run_dir='run')['search']['survivors'])"
    )
    assert run_python(search, tmp_path).strip() == "['mine.samplers:Pairs:n=3']"


@pytest.mark.parametrize(
    "line",
    [line for block in blocks(COMMANDS, "sh") for line in block.splitlines()
     if line.startswith("autosample-tf")],
)  # fmt: skip
def test_every_command_of_the_documents_takes_its_options(line: str) -> None:
    """Each is parsed as written; `--help` at its end keeps it from running."""
    arguments = shlex.split(line, comments=True)[1:]
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    options = {a.split("=")[0] for a in arguments if a.startswith("--")}
    assert all(option in result.output for option in options)


def test_the_samplers_pages_are_those_of_the_registry_and_the_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`python benchmarks/sampler_pages.py` writes them anew."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("sampler_pages")
    expected = module.pages()
    assert len(module.datasets()) >= 2
    assert {path.stem for path in expected} == {"samplers", *SAMPLERS}
    for path, text in expected.items():
        assert path.read_text(encoding="utf-8") == text, path.name
    assert {path.stem for path in (ROOT / "docs/samplers").iterdir()} == set(SAMPLERS)


def test_links_between_documents_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name}: {target}"
