"""The feature extractor: configuration, data, networks, losses, loop, evaluation, export."""
