"""DENS's Baby split, for TFDS."""

from autosample_tf.builders import LinesBuilder
from autosample_tf.published import facts


class Builder(LinesBuilder):
    """DENS's Baby split."""

    known = facts("amazon-baby-dens")
