"""A run as a SavedModel that TensorFlow Serving loads."""
