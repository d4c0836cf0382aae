"""A sequence of images as a scientist opens it: lazy, with its times, coordinates and flaws."""
