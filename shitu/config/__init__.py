"""YAML and `-o` overrides -> a typed, closed Config with PaddleClas's sections and keys."""

from shitu.config.load import load_config as load_config
from shitu.config.schema import Config as Config
