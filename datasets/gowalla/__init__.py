"""Gowalla: its facts, description and citations; see README.md."""
