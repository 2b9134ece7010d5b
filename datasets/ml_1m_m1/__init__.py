"""Movielens1M_m1: its facts, description, citations and builder; see README.md."""
