"""One module a stage: what it reads and writes, and one function that does it."""
