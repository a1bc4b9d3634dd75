"""Recognition for Python programs and notebooks in three lines: docs/python.md."""
