"""Amazon-Book: its facts, description, citations and builder; see README.md."""
