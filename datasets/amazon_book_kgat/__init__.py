"""Amazon-Book of KGAT; see README.md."""
