"""Which numbers TensorFlow computes with as they are."""

from __future__ import annotations


def fits_float32(value: float) -> bool:
    """Whether a number is finite, and 0 or of a size that float32 has with all its digits."""
    return value == 0 or 1e-37 <= abs(value) <= 1e38
