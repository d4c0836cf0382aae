"""Arrays in, arrays out: calibration, destretch and geometry, with NumPy, SciPy, Numba and CuPy only."""
