"""A gallery as it lies on disk, and the search in it; nothing here changes one."""
