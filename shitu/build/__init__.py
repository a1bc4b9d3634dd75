"""From a list of images to a gallery; resumable."""
