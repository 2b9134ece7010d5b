"""MovieLens-100K in RecBole's format: its facts, description, citations and builder; see README.md."""
