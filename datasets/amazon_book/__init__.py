"""Amazon-Book; see README.md."""
