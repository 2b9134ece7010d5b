"""Movielens1M_m1; see README.md."""
