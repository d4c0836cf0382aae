"""The open speckle reconstruction."""

from stillsun.speckle.masking.reconstruction import reconstruct
from stillsun.speckle.masking.series import reconstruct_series

__all__ = ["reconstruct", "reconstruct_series"]
