"""The stages of a run: search, trial, retraining."""
