"""What runs an exported program: what the rest knows of an engine (base), and the engines."""
