"""One batch under all samplers: their negatives, what those cost, what held-out pairs say."""
