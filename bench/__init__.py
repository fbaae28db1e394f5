"""Measures the mesh: `python -m bench [NAME…]`. What the figures mean: docs/performance.md.

It is no test: machines differ and others use them too, so a figure that misses its bound is told,
and fails nothing.
"""
