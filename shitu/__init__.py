"""PP-ShiTu image recognition: find the objects in a photo, name them from a gallery."""

__version__ = "0.1.0"
