"""DENS's Baby split, for TFDS."""

from autosample_tf.published.builders import LinesBuilder
from autosample_tf.published.facts import facts


class Builder(LinesBuilder):
    """DENS's Baby split."""

    known = facts("amazon-baby-dens")
