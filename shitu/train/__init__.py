"""Networks and training; needs the `train` extra."""
