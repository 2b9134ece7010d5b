"""LightGCN's and NGCF's Gowalla split (Gowalla_m1), for TFDS."""

from autosample_tf.published.builders import LinesBuilder
from autosample_tf.published.facts import facts


class Builder(LinesBuilder):
    """LightGCN's and NGCF's Gowalla split (Gowalla_m1)."""

    known = facts("gowalla")
