"""LCFN's 80/10/10 split of MovieLens-1M (Movielens1M_m1), for TFDS."""

from autosample_tf.published.builders import LinesBuilder
from autosample_tf.published.facts import facts


class Builder(LinesBuilder):
    """LCFN's 80/10/10 split of MovieLens-1M (Movielens1M_m1)."""

    known = facts("ml-1m-m1")
