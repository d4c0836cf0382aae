"""Where on the Sun: pointing, world coordinates and the header's keywords."""
