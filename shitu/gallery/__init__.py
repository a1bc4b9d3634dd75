"""The gallery: vectors, items and index as one object, kept in one folder."""

from shitu.gallery.gallery import Gallery as Gallery
from shitu.gallery.items import Item as Item
from shitu.gallery.lock import write_lock as write_lock
