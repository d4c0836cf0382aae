"""The open speckle reconstruction."""
