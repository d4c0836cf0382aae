"""The external program KISIP: its files, byte for byte, and the driver that starts and watches it."""
