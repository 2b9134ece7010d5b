"""LightGCN's Amazon-Book test file, split again 80/20, for TFDS."""

from autosample_tf.published.builders import LinesBuilder
from autosample_tf.published.facts import facts


class Builder(LinesBuilder):
    """LightGCN's Amazon-Book test file, split again 80/20."""

    known = facts("amazon-book-from-test")
