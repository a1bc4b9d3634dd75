"""The gallery: vectors, items and index as one object, kept in one folder."""

from shitu.gallery.gallery import Gallery as Gallery
from shitu.gallery.read.items import Item as Item
from shitu.gallery.write.lock import write_lock as write_lock
