"""Readers of the layouts in which public sets come: a set's folder -> its rows, as they are needed."""
