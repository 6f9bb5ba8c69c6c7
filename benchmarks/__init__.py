"""How long the package takes beside the best other way to the same answer, and beside the machine's limits.

``python -m benchmarks --help`` says how to run it, README.md what it measures and what was found.
"""
