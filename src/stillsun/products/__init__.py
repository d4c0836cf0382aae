"""What the stages make, each declared once: where it is, what it holds, how it is read."""
