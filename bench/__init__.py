"""Measurements. `python -m bench` runs most of them; the modules that answer one question run alone."""
