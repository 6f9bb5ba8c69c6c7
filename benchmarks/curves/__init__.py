"""Time and memory against how much of everything there is: `python -m benchmarks.curves`."""
