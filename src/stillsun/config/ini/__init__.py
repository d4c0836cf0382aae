"""Configurations of the superseded system: the file, its keywords, and what becomes of them here."""
