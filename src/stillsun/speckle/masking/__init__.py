"""The open speckle reconstruction."""

from stillsun.speckle.masking.reconstruction import reconstruct

__all__ = ["reconstruct"]
