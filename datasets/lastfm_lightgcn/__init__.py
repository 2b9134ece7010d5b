"""LastFM of LightGCN-PyTorch: its facts, description, citations and builder; see README.md."""
