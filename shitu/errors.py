"""The one family of errors that a user can cause, each with the exit status it leads to.

An error says what came, what was wanted, and what to do next. Anything that is not a `ShituError` is a bug.
"""

from __future__ import annotations


class ShituError(Exception):
    """Something failed; the command ends with status 1 unless a subclass says otherwise."""

    exit_status = 1


class UsageError(ShituError):
    """The command line, the configuration, or what they point to is wrong."""

    exit_status = 2


class ConfigError(UsageError):
    """A YAML file or an override that cannot be used."""


class ModelError(UsageError):
    """A model that is missing, incomplete, or not what its model.yaml says."""


class GalleryError(UsageError):
    """A gallery that is missing, damaged, or does not fit the model or the configuration."""


class GalleryWriteError(GalleryError):
    """A disk that was full, or failed, while a gallery was written; what was there before is unchanged."""

    exit_status = 1


class GalleryServerError(GalleryError):
    """A database that cannot be reached, or was lost in the middle; no change was made unless its commit was."""

    exit_status = 1


class GalleryBusyError(ShituError):
    """Another process is writing the gallery."""


class ImageError(ShituError):
    """One image that cannot be read; the others go on."""


class EngineError(ShituError):
    """The inference engine is missing or refused the model."""


class DownloadError(ShituError):
    """A file that could not be fetched whole; what has arrived is kept for the next try."""


class ServiceError(ShituError):
    """A service that refused something, or did not answer.

    `code` and `reason` are its own words for what was wrong, "" where it had none; `status` that of HTTP, 0 where no
    answer came.
    """

    def __init__(self, message: str, code: str = "", status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.code, self.status, self.reason = code, status, reason
        self.exit_status = 2 if 400 <= status < 500 and status != 429 else 1


class StoppedError(ShituError):
    """A long run was asked to stop, has saved where it was, and can go on."""

    exit_status = 130
