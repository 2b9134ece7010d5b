"""Amazon-Book, from LightGCN's test file; see README.md."""
