"""Runs the command line: `python -m tallymesh`."""

from tallymesh.cli import main

main()
