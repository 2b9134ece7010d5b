"""Amazon-Book of KGAT: its facts, description, citations and builder; see README.md."""
