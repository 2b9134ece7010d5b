"""LightGCN-PyTorch's LastFM split, ids numbered from 0, for TFDS."""

from autosample_tf.published.builders import LinesBuilder
from autosample_tf.published.facts import facts


class Builder(LinesBuilder):
    """LightGCN-PyTorch's LastFM split, ids numbered from 0."""

    known = facts("lastfm-lightgcn")
