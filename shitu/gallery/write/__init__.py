"""Changes of a gallery, each durable at one moment; they need what is in `read`, never the other way round."""
