"""Every candidate alone, their equal mixture, and AutoSample, by one rule."""
