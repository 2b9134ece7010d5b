"""Amazon-Book, from LightGCN's test file: its facts, description, citations and builder; see README.md."""
