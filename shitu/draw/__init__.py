"""Annotated pictures: boxes, labels that do not cover each other, and where the pictures are kept."""

from shitu.draw.annotated_writer import AnnotatedWriter as AnnotatedWriter
from shitu.draw.draw import draw_recognition as draw_recognition
from shitu.draw.draw import draw_unnamed as draw_unnamed
