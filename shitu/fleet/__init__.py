"""One list, many processes: shards of it, what each wrote, and who runs them."""
