"""Versions of what is installed."""

import sys
from importlib import metadata

import pytest

from autosample_tf.installed import installed_version


def distribution(folder, name: str, version: str, package: str) -> None:
    """What pip leaves of one that brings a package."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text(f"{package}\n")


def test_a_packages_own_version():
    assert installed_version("numpy") == metadata.version("numpy")


def test_what_stands_in_its_place(tmp_path, monkeypatch):
    distribution(tmp_path, "flow-cpu", "2.21.1", "flow")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert installed_version("flow") == "2.21.1"


def test_its_own_comes_first(tmp_path, monkeypatch):
    distribution(tmp_path, "flow-cpu", "2.21.1", "flow")
    distribution(tmp_path, "flow", "2.21.2", "flow")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert installed_version("flow") == "2.21.2"


def test_what_is_not_there_is_an_error():
    with pytest.raises(metadata.PackageNotFoundError, match="no_such_package"):
        installed_version("no_such_package")
