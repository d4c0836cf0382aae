"""What runs, in which order, what is reused, and what is written down about it."""
