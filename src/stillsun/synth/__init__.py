"""Simulated observations with known truth, in the raw formats of the instrument."""
