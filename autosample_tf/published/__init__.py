"""The published datasets: what is known of them, and how they come to this machine."""
