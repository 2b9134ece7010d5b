"""Which version of a package is installed. The standard library alone."""

from __future__ import annotations

from importlib import metadata


def installed_version(package: str) -> str:
    """Of a package, or of what stands in its place, as tensorflow-cpu does in TensorFlow's.

    Raises:
      importlib.metadata.PackageNotFoundError: if none does.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        for distribution in metadata.packages_distributions().get(package, ()):
            return metadata.version(distribution)
        raise
