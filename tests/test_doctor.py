"""What is right is told, what is wrong is told with its remedy, and nothing raises."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf
from click.testing import CliRunner

from autosample_tf.cli import main
from autosample_tf.commands import doctor
from autosample_tf.commands.doctor import Finding


def remedies(findings):
    return {finding.what: finding.remedy for finding in findings if finding.remedy}


@pytest.fixture
def installed(monkeypatch):
    """Sets which versions are installed; whatever is not named is not."""

    def install(**versions):
        def version(name):
            if name.replace("-", "_") not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name.replace("-", "_")]

        monkeypatch.setattr(doctor.metadata, "version", version)

    return install


def least_versions():
    return {name.replace("-", "_"): least for name, (least, _) in doctor.REQUIREMENTS.items()}


def test_requirements_are_those_of_pyproject():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
    rows = re.findall(r'"([\w-]+)>=([\d.]+)(?:,<([\d.]+))?"', listed)
    assert {name: (least, below or None) for name, least, below in rows} == doctor.REQUIREMENTS


class TestExamine:
    def test_here_all_but_versions_is_well(self, monkeypatch, tmp_path):
        monkeypatch.delenv("AUTOSAMPLE_TF_DATA", raising=False)
        monkeypatch.setattr(doctor, "_NVIDIA_DRIVER", tmp_path / "none")
        findings = doctor.examine()
        names = {finding.what for finding in findings}
        assert {"python", "tensorflow", "tf.keras", "threads", "/device:CPU:0"} <= names
        assert not set(remedies(findings)) - set(doctor.REQUIREMENTS)

    def test_a_check_that_raises_is_a_finding(self, monkeypatch):
        def _devices():
            yield Finding("threads", "2")
            raise RuntimeError("the driver is gone\nand more")

        monkeypatch.setattr(doctor, "_devices", _devices)
        findings = {finding.what: finding for finding in doctor.examine()}
        assert findings["threads"].remedy is None
        assert findings["devices"].found == "RuntimeError: the driver is gone"
        assert findings["devices"].remedy


class TestPackages:
    def test_the_least_versions_do(self, installed):
        installed(**least_versions())
        assert not remedies(doctor._packages())

    @pytest.mark.parametrize("version", ["2.20.1", "2.22.0", "3.0", "2.22.0rc1"])
    def test_another_version_does_not(self, version, installed):
        installed(**{**least_versions(), "tensorflow": version})
        assert remedies(doctor._packages()) == {
            "tensorflow": 'Run `pip install "tensorflow>=2.21,<2.22"`.'
        }

    def test_a_missing_one_is_told(self, installed):
        installed(**{name: v for name, v in least_versions().items() if name != "pyarrow"})
        assert remedies(doctor._packages()) == {"pyarrow": 'Run `pip install "pyarrow>=17"`.'}

    def test_scann_does_harm(self, installed):
        installed()
        assert not list(doctor._intruders())
        installed(scann="1.4.2")
        assert remedies(doctor._intruders()) == {"scann": "Run `pip uninstall scann`."}

    @pytest.mark.parametrize(
        ("version", "within"),
        [("2.21", True), ("2.21.0", True), ("2.21.9.post1", True), ("2.21.0+cpu", True),
         ("2.9", False), ("2.22", False), ("10.0", False)],
    )  # fmt: skip
    def test_versions_are_compared_as_numbers(self, version, within):
        assert doctor._within(version, "2.21", "2.22") == within


class TestKerasAndDevices:
    def test_keras_3_is_wrong(self, monkeypatch):
        model = type("Model", (), {"__module__": "keras.src.models.model"})
        monkeypatch.setattr(tf, "keras", SimpleNamespace(Model=model))
        assert "TF_USE_LEGACY_KERAS=1" in remedies(doctor._keras())["tf.keras"]

    def test_a_driver_without_a_gpu_in_tensorflow_is_wrong(self, monkeypatch, tmp_path):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(doctor, "_NVIDIA_DRIVER", tmp_path)
        assert "and-cuda" in remedies(doctor._devices())["GPU"]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # hidden on purpose
        assert not remedies(doctor._devices())

    def test_a_device_that_fails_is_wrong(self, monkeypatch):
        def fail(*_):
            raise tf.errors.InternalError(None, None, "no kernel image")

        monkeypatch.setattr(tf, "matmul", fail)
        assert "CUDA_VISIBLE_DEVICES=-1" in remedies(doctor._devices())["/device:CPU:0"]


@pytest.mark.parametrize(("folder", "wrong"), [(".", False), ("not/there", True), (None, False)])
def test_the_folder_of_data_is_looked_at(folder, wrong, monkeypatch):
    monkeypatch.delenv("AUTOSAMPLE_TF_DATA", raising=False)
    if folder:
        monkeypatch.setenv("AUTOSAMPLE_TF_DATA", folder)
    assert bool(remedies(doctor._data())) == wrong


class TestCommand:
    def run(self, monkeypatch, findings, *arguments):
        monkeypatch.setattr(doctor, "examine", lambda: findings)
        return CliRunner().invoke(main, ["doctor", *arguments])

    def test_all_well(self, monkeypatch):
        result = self.run(monkeypatch, [Finding("python", "3.12.1")])
        assert result.exit_code == 0
        assert result.stdout.split() == ["ok", "python", "3.12.1"]

    def test_something_wrong(self, monkeypatch):
        findings = [Finding("python", "3.12.1"), Finding("scann", "1.4.2", "Uninstall it.")]
        result = self.run(monkeypatch, findings)
        assert result.exit_code == 1
        assert "WRONG  scann" in result.stdout
        assert "Uninstall it." in result.stdout
        quiet = self.run(monkeypatch, findings, "--quiet")
        assert quiet.exit_code == 1
        assert "python" not in quiet.stdout
        told = json.loads(self.run(monkeypatch, findings, "--json").stdout)
        assert told[1] == {"what": "scann", "found": "1.4.2", "remedy": "Uninstall it."}
