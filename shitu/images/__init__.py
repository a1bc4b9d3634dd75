"""Image files: found, read, read ahead; and boxes on them. Each name from its own file: `find` needs no numpy."""
