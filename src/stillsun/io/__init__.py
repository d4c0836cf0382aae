"""Files: raw frames, telescope logs, HDF5 stores and FITS products."""
