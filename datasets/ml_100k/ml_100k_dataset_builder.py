"""MovieLens-100K in RecBole's format, with ratings and times, for TFDS."""

from autosample_tf.published.builders import RatingsBuilder
from autosample_tf.published.facts import facts


class Builder(RatingsBuilder):
    """MovieLens-100K in RecBole's format, with ratings and times."""

    known = facts("ml-100k")
