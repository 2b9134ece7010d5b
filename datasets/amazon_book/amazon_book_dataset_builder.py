"""LightGCN's Amazon-Book split, for TFDS."""

from autosample_tf.published.builders import LinesBuilder
from autosample_tf.published.facts import facts


class Builder(LinesBuilder):
    """LightGCN's Amazon-Book split."""

    known = facts("amazon-book")
