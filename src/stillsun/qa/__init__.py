"""Figures of merit and figures."""
