"""BGCN's and SimpleX's Beauty split (AmazonBeauty_m1), for TFDS."""

from autosample_tf.published.builders import LinesBuilder
from autosample_tf.published.facts import facts


class Builder(LinesBuilder):
    """BGCN's and SimpleX's Beauty split (AmazonBeauty_m1)."""

    known = facts("amazon-beauty-m1")
