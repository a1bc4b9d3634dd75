"""Galleries in a database: every row says from which version on it is there and from which on it is gone.

That is what makes one moment of commit (a new version becomes the visible one), readers that keep their moment, and
`undo`, out of what a database offers; docs/stores.md tells which promises which store keeps.
"""
