"""LightGCN-PyTorch's LastFM split, ids numbered from 0, for TFDS."""

from autosample_tf.builders import LinesBuilder
from autosample_tf.published import facts


class Builder(LinesBuilder):
    """LightGCN-PyTorch's LastFM split, ids numbered from 0."""

    known = facts("lastfm-lightgcn")
