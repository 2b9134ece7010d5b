"""Yelp2018; see README.md."""
