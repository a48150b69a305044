"""Figures of sitewright as JSON lines: `python -m tests.bench`, or `make bench`."""
