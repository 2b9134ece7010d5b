"""Yelp2018: its facts, description and citations; see README.md."""
