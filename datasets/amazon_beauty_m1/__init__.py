"""AmazonBeauty_m1; see README.md."""
