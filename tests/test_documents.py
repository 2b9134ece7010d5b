"""What the documents show is there: code, commands, options, links, and the site made of them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import autosample_tf
from autosample_tf.cli import main
from autosample_tf.losses import Loss, build_loss
from autosample_tf.models.contract import Recommender
from autosample_tf.objectives import Objective
from autosample_tf.reading.split_rules import parse_rule
from autosample_tf.samplers import SAMPLERS, Sampler, build_sampler

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    notebook = json.loads(TUTORIAL.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def read(path: Path) -> str:
    """A page's Markdown."""
    if path == TUTORIAL:
        return "\n\n".join("".join(cell["source"]) for cell in cells("markdown"))
    return path.read_text(encoding="utf-8")


PAGES = {
    str(path.relative_to(ROOT)): read(path)
    for path in [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("**/*.md")), TUTORIAL]
}
README = PAGES["README.md"]
OWN = {name: text for name, text in PAGES.items() if name != "CHANGELOG.md"}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> Iterator[str]:
    """Every line that begins with `autosample-tf`, fenced or indented, with what continues it."""
    lines = text.replace("\\\n", " ").splitlines()
    is_fenced = False
    for line in lines:
        is_fenced ^= line.startswith("```")
        if (is_fenced or line.startswith("    ")) and line.strip().startswith("autosample-tf "):
            yield line.strip()


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


@pytest.mark.slow
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
    "line", dict.fromkeys(line for text in OWN.values() for line in commands(text))
)
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


# --- Python blocks


PYTHON = [
    pytest.param(block, id=f"{name}-{place}")
    for name, text in PAGES.items()
    for place, block in enumerate(blocks(text, "python"))
]


@pytest.mark.parametrize("code", PYTHON)
def test_python_blocks_compile_and_what_they_import_is_there(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("autosample_tf"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert importlib.util.find_spec(node.module)
        elif isinstance(node, ast.Import):
            assert all(importlib.util.find_spec(alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "autosample_tf":
            assert hasattr(autosample_tf, node.attr)


@pytest.mark.slow
def test_datas_frame_is_read_and_searched(tmp_path: Path) -> None:
    frame = """
import numpy as np, pandas as pd
rows = np.random.default_rng(0).integers(0, [30, 40, 6], (900, 3))
frame = pd.DataFrame(rows, columns=["customer", "item", "rating"])
frame["timestamp"] = range(len(frame))
"""
    (code,) = blocks(PAGES["docs/data.md"], "python")
    assert 'run_dir="runs/mine"' in code
    short = "autosample_tf.Settings(search_epochs=1, retrain_epochs=1, samplers=('rns',))"
    run_python(frame + code.replace("search(data,", f"search(data, {short},"), tmp_path)
    assert (tmp_path / "runs/mine/metrics.json").is_file()


# --- names


def options() -> set[str]:
    """Every flag that a command has."""
    found = {"--help"}
    waiting: list[click.Command] = [main]
    while waiting:
        command = waiting.pop()
        waiting.extend(getattr(command, "commands", {}).values())
        for parameter in command.params:
            found.update([*parameter.opts, *parameter.secondary_opts])
    return found


def own_code(name: str) -> Iterator[str]:
    """What a page has in backticks in a line; of tables of others' names, the last column."""
    text = re.sub(r"^```.*?^```", "", PAGES[name], flags=re.DOTALL | re.MULTILINE)
    for line in text.splitlines():
        if name == "docs/coming-from.md" and line.startswith("|"):
            line = line.rstrip(" |").rpartition(" | ")[2]
        found = re.findall(r"`([^`]+)`", line)
        yield from (code for code in found if not code.startswith("python benchmarks/"))


OTHERS_FLAGS = {
    *("--check", "--logdir"),  # of ruff and tensorboard
    *("--enable_batching", "--batching_parameters_file"),  # of TensorFlow Serving
}


@pytest.mark.parametrize("name", OWN)
def test_flags_in_the_text_are_flags(name: str) -> None:
    named = {flag for code in own_code(name) for flag in re.findall(r"(?<![\w-])--[a-z]\S*", code)}
    flags = {re.split(r"[=,.…]", flag)[0] for flag in named}
    assert flags <= options() | OTHERS_FLAGS


@pytest.mark.parametrize("name", OWN)
def test_specs_in_the_text_can_be_built(name: str) -> None:
    builders = {"sampler": build_sampler, "loss": build_loss, "split-by": parse_rule}
    for code in [*own_code(name), *commands(PAGES[name])]:
        for flag, spec in re.findall(r"--(sampler|loss|split-by)[ =]([a-z][^\s`]*)", code):
            if "…" not in spec and "." not in spec.partition(":")[0]:
                builders[flag](re.sub(r"=[amnt]$", "=1", re.sub(r"=DATE$", "=2024-01-01", spec)))


# --- links


def slugs(name: str) -> set[str]:
    """The anchors of a page: its headings, and what is told there from docstrings."""
    headings = re.findall(r"^#+ (.*)$", PAGES[name], re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    told = re.findall(r"^::: (\S+)$", PAGES[name], re.MULTILINE)
    return {word.strip().replace(" ", "-") for word in words} | set(told)


@pytest.mark.parametrize("name", PAGES)
def test_links_between_documents_lead_somewhere(name: str) -> None:
    """External ones are not contacted."""
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        aim = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert aim.exists(), target
        assert not anchor or anchor in slugs(str(aim.relative_to(ROOT))), target


def test_pages_of_the_manual_link_to_nothing_outside_of_it() -> None:
    """The site has only what is in docs/."""
    for path in DOCS.glob("**/*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", read(path)):
            if not re.match(r"https?://", target):
                assert DOCS in (path.parent / target).resolve().parents, f"{path.name}: {target}"


# --- the site


def resolved(identifier: str) -> object:
    """What `:::` names: something in a module, or a module."""
    module, _, name = identifier.rpartition(".")
    found = getattr(importlib.import_module(module), name, None)
    return found or importlib.import_module(identifier)


def test_the_api_has_all_public_names_and_the_contracts() -> None:
    pages = [text for name, text in PAGES.items() if name.startswith("docs/api/")]
    told = [resolved(name) for text in pages for name in re.findall(r"^::: (\S+)", text, re.M)]
    assert all(getattr(autosample_tf, name) in told for name in autosample_tf.__all__)
    assert all(contract in told for contract in (Recommender, Sampler, Loss, Objective))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manual, built: no page is left out of it, and no link or anchor leads nowhere."""
    for package in ("mkdocs", "mkdocstrings", "mkdocs_jupyter", "material"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_the_api_from_the_docstrings(site: Path) -> None:
    page = (site / "api/running.html").read_text(encoding="utf-8")
    assert "most epochs of the retraining" in page


def test_links_of_the_site_lead_to_its_files(site: Path) -> None:
    """Those of the notebook too, which MkDocs does not look at."""
    for page in site.glob("**/*.html"):
        if page.name != "404.html":  # which a server sends from anywhere
            html = page.read_text(encoding="utf-8")
            for target in re.findall(r'<a [^>]*href="([^"#?:]+)["#?]', html):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


# --- the tutorial


def test_the_tutorial_is_stored_as_it_ran() -> None:
    assert [cell["execution_count"] for cell in cells("code")] == [
        *range(1, len(cells("code")) + 1)
    ]
    outputs = [output for cell in cells("code") for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert all(output.get("name", "stdout") == "stdout" for output in outputs)
    assert TUTORIAL.stat().st_size < 200_000
    assert not re.search(r"/(tmp|home|root|Users)/", TUTORIAL.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_tutorial_runs_anew(tmp_path: Path) -> None:
    for package in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(package)
    copy = shutil.copy(TUTORIAL, tmp_path)
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "tutorial.py", copy],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again = json.loads(Path(copy).read_text(encoding="utf-8"))
    fresh = [cell for cell in again["cells"] if cell["cell_type"] == "code"]
    for cell, stored in zip(fresh, cells("code"), strict=True):
        kinds = [output["output_type"] for output in cell["outputs"]]
        assert kinds == [output["output_type"] for output in stored["outputs"]]
    assert fresh[2]["outputs"] == cells("code")[2]["outputs"]  # what the data has
