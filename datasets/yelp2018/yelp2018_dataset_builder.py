"""LightGCN's Yelp2018 split (Yelp18_m1), for TFDS."""

from autosample_tf.published.builders import LinesBuilder
from autosample_tf.published.facts import facts


class Builder(LinesBuilder):
    """LightGCN's Yelp2018 split (Yelp18_m1)."""

    known = facts("yelp2018")
