"""A run's top-k lists."""
