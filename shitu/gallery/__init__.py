"""The gallery: vectors, items and index as one object, kept in a folder or wherever its URL says."""

from shitu.gallery.base import Facts as Facts
from shitu.gallery.base import GalleryReader as GalleryReader
from shitu.gallery.base import Item as Item
from shitu.gallery.open import open_reader as open_reader
from shitu.gallery.open import open_writer as open_writer
from shitu.gallery.open import settings_of as settings_of
