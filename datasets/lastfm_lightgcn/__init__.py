"""LastFM of LightGCN-PyTorch; see README.md."""
