"""The service: recognition and teaching over HTTP, several galleries in one process. Only `cli` imports it, late."""
