"""Yelp2018: its facts, description, citations and builder; see README.md."""
