"""One image against another: correlation, offset, rotation."""
