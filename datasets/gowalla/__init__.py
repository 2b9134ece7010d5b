"""Gowalla; see README.md."""
