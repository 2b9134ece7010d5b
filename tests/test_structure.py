"""What the package is made of: its front door, its layers, its registries, its wheel."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import tensorflow as tf

import autosample_tf
from autosample_tf import losses, settings
from autosample_tf.models import MODELS
from autosample_tf.samplers import SAMPLERS, Sampler, build_sampler, build_samplers

ROOT = Path(__file__).parents[1]
PACKAGE = Path(autosample_tf.__file__).parent
FAMILIES = ("losses", "models", "samplers")  # none imports another
PUBLIC = {
    "AutoSample": tf.keras.Model,
    "Dataset": object,
    "InputError": ValueError,
    "Interactions": object,
    "LightGCN": tf.keras.Model,
    "MF": tf.keras.Model,
    "NGCF": tf.keras.Model,
    "NeuMF": tf.keras.Model,
    "Settings": object,
    "TwoTower": tf.keras.Model,
    "compare": None,
    "evaluate": None,
    "export": None,
    "load": None,
    "print_progress": None,
    "recommend": None,
    "retrain": None,
    "search": None,
}  # None: a function; else a class below this one


def submodules() -> list[str]:
    walked = pkgutil.walk_packages([str(PACKAGE)], "autosample_tf.")
    return [module.name for module in walked]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Another Python, which finds the same package."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment},
    )


# --- the front door


def test_the_public_names_are_these() -> None:
    assert autosample_tf.__all__ == sorted(PUBLIC)


def test_type_checkers_are_told_where_the_public_names_are() -> None:
    tree = ast.parse(Path(autosample_tf.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {a.asname: (node.module, a.name) for node in block.body for a in node.names}
    assert told == {name: (home, name) for name, home in autosample_tf._HOMES.items()}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_a_function_or_class_also_when_all_modules_are_imported(
    name: str,
) -> None:
    for module in submodules():
        importlib.import_module(module)
    value, parent = getattr(autosample_tf, name), PUBLIC[name]
    if parent is None:
        assert inspect.isfunction(value)
    else:
        assert inspect.isclass(value)
        assert issubclass(value, parent)
    assert value.__name__ == name
    assert inspect.getdoc(value)


def test_no_module_is_called_as_a_public_name() -> None:
    names = {module.rpartition(".")[2] for module in submodules()}
    assert not names & set(PUBLIC)


def test_the_public_names_are_what_a_star_imports_and_dir_lists() -> None:
    scope: dict[str, object] = {}
    exec("from autosample_tf import *", scope)
    assert set(scope) - {"__builtins__"} == set(PUBLIC)
    assert set(PUBLIC) <= set(dir(autosample_tf))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        _ = autosample_tf.serch


# --- layers


def layout() -> list[str]:
    """The modules in CONTRIBUTING.md's order: `errors`, …, `reading`, `reading.instants`, …,
    `models`, …, `cli`."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## Layout")[2].partition("\n## ")[0]
    order, package = [], ""
    for indent, name, kind in re.findall(r"^ {4}( {2})?(\w+)(\.py|/) ", section, re.MULTILINE):
        order.append(f"{package}.{name}" if indent else name)
        if kind == "/":
            package = name
    return order


def layer(module: str) -> str:
    """`autosample_tf.reading.columns` is one of its own, `autosample_tf.models.mf` part of
    `models`."""
    inner = module.removeprefix("autosample_tf.")
    family = inner.partition(".")[0]
    return family if family in FAMILIES else inner


def imports(module: str) -> Iterator[str]:
    """The modules of this package that a module imports, anywhere in it."""
    spec = importlib.util.find_spec(module)
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    known = set(submodules())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if "." in alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            if node.module == "autosample_tf":
                assert not {alias.name for alias in node.names} & set(PUBLIC)
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & known
            if names - known and node.module != "autosample_tf":
                yield node.module or ""


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name.startswith("autosample_tf.")}


def test_the_layout_lists_every_module_once() -> None:
    there = {layer(module) for module in submodules()}
    assert sorted(layout()) == sorted(there)


@pytest.mark.parametrize("module", submodules())
def test_a_module_imports_only_modules_above_it(module: str) -> None:
    order = layout()
    own = layer(module)
    above = set(order[: order.index(own)])
    if own in FAMILIES:
        above -= set(FAMILIES)
    imported = {layer(name) for name in own_imports(module)} - {own}
    assert imported <= above


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_contract_imports_no_member(family: str) -> None:
    own = own_imports(f"autosample_tf.{family}.contract")
    assert family not in {layer(name) for name in own}


WITHOUT_TENSORFLOW = (
    *("", ".settings", ".errors", ".interactions", ".published.fetch", ".catalog", ".datasets"),
    *(".runs", ".cli"),
)
LOADED = "sorted({'tensorflow', 'tf_keras', 'keras', 'tensorflow_recommenders'} & set(sys.modules))"


@pytest.mark.parametrize("module", WITHOUT_TENSORFLOW)
def test_tensorflow_is_not_imported_by(module: str) -> None:
    done = python(f"import sys, autosample_tf{module}; print({LOADED})")
    assert done.stdout.strip() == "[]", done.stderr


def test_help_of_every_command_answers_without_tensorflow() -> None:
    done = python(
        f"""
import sys
from autosample_tf.cli import main

def paths(command, path):
    yield path
    for name, below in getattr(command, "commands", {{}}).items():
        yield from paths(below, [*path, name])

for path in paths(main, []):
    try:
        main([*path, "--help"])
    except SystemExit as ended:
        assert ended.code == 0, path
print({LOADED})
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


# --- Keras 2


def test_keras_3_is_refused_with_what_to_do_on_the_first_use() -> None:
    code = "import autosample_tf; autosample_tf.search"
    done = python(code, TF_USE_LEGACY_KERAS="0")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: Expected TF_USE_LEGACY_KERAS=1")
    assert "received '0'" in last
    assert "Unset it, or set it to 1" in last


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_what_asks_for_keras_2_is_accepted(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    autosample_tf.require_keras_2()


def test_keras_2_is_asked_for_where_nothing_is() -> None:
    code = """
import os
os.environ.pop("TF_USE_LEGACY_KERAS", None)
import autosample_tf
print(os.environ["TF_USE_LEGACY_KERAS"])
"""
    assert python(code).stdout.strip() == "1"


def test_keras_3_that_is_loaded_already_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Keras3:
        __version__ = "3.15.1"

    monkeypatch.setattr(tf, "keras", Keras3)
    with pytest.raises(ImportError, match=r"received Keras 3\.15\.1, already loaded"):
        autosample_tf.require_keras_2()


# --- registries


def test_settings_name_the_models_and_losses_that_there_are() -> None:
    assert tuple(sorted(MODELS)) == settings.MODEL_NAMES
    assert tuple(sorted(losses.LOSSES)) == settings.LOSSES
    assert set(settings.MODEL_DEFAULTS) == set(MODELS)
    assert set(settings.TEMPERATURES) == set(settings.OBJECTIVES)


def test_samplers_stand_under_their_own_names() -> None:
    assert {name: own.card.name for name, own in SAMPLERS.items()} == {n: n for n in SAMPLERS}
    assert all(issubclass(own, Sampler) for own in SAMPLERS.values())


def test_the_standard_set_builds_and_no_two_of_it_are_the_same() -> None:
    specs = [sampler.spec for sampler in build_samplers(settings.STANDARD_SET)]
    assert len(specs) == len(set(specs)) == len(settings.STANDARD_SET)


@pytest.mark.parametrize("spec", [*settings.STANDARD_SET, *SAMPLERS])
def test_a_canonical_spec_builds_the_same_sampler(spec: str) -> None:
    sampler = build_sampler(spec)
    again = build_sampler(sampler.spec)
    assert type(again) is type(sampler)
    assert again.options() == sampler.options()
    assert again.spec == sampler.spec


# --- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The paths in the wheel that a copy of the checkout gives, built offline."""
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("no checkout to build a wheel from")
    try:
        release = int(metadata.version("setuptools").partition(".")[0])
    except metadata.PackageNotFoundError:
        release = 0
    if release < 77:
        pytest.skip("offline a wheel needs setuptools 77 or later, installed here")
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    for name in ("autosample_tf", "datasets", "tests", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "cli.py"):
        shutil.copy(ROOT / name, copy)
    arguments = "-m pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir"
    done = subprocess.run(
        [sys.executable, *arguments.split(), str(out), str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_installs_one_top_level_package(wheel: list[str]) -> None:
    tops = {path.partition("/")[0] for path in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"autosample_tf"}


def test_the_wheel_has_every_module_and_all_of_every_dataset(wheel: list[str]) -> None:
    modules = {str(path.relative_to(PACKAGE.parent)) for path in PACKAGE.rglob("*.py")}
    files = set(ROOT.glob("datasets/*/*.*"))  # not the dummy data
    datasets = {f"autosample_tf/{path.relative_to(ROOT)}" for path in files}
    assert "autosample_tf/datasets/gowalla/facts.json" in datasets
    assert "autosample_tf/datasets/ml_100k/checksums.tsv" in datasets
    assert modules | datasets <= set(wheel)
