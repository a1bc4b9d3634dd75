"""Video files, cameras and streams: frames, tracks of the things in them, and events that name these things."""
