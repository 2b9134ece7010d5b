"""MovieLens-100K in RecBole's format; see README.md."""
