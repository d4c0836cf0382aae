"""Speckle: engines that turn a burst into one image, and the files and driver of an external program."""
