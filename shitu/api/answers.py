"""What `Pipeline.predict` answers: pictures with what was recognised, to iterate, draw, save, show and tabulate."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, overload

from PIL import Image

from shitu.errors import ShituError
from shitu.images.read import Picture, decode_image, read_image
from shitu.results import Recognition, Region

_SHOWN = 20  # pictures in a notebook's cell
_SHOWN_SIDE = 800  # pixels


@dataclass(frozen=True)
class Answer:
    """One picture: iterating gives its `Region`s, nearest first, each with `label`, `score`, `bbox`, `matches`."""

    found: Recognition
    _picture: Picture | bytes | None = field(default=None, repr=False)  # bytes: a JPEG; None: it is read again

    @property
    def image(self) -> str:
        """Its path or address, or `picture-1` for one that was in memory."""
        return self.found.image

    @property
    def error(self) -> str | None:
        """Why it could not be read, or None."""
        return self.found.error

    @property
    def labels(self) -> list[str]:
        return [region.label for region in self]

    def __iter__(self) -> Iterator[Region]:
        return iter(self.found.regions)

    def __len__(self) -> int:
        return len(self.found.regions)

    def __bool__(self) -> bool:
        """Whether anything was recognised."""
        return len(self) > 0

    def to_dict(self) -> dict[str, Any]:
        """The record that `shitu predict` prints."""
        return self.found.to_dict()

    def picture(self) -> Picture:
        """(h, w, 3) uint8 RGB, upright. Raises ImageError where it cannot be read (any more)."""
        if isinstance(self._picture, bytes):
            return decode_image(self._picture, self.image)
        return read_image(self.image) if self._picture is None else self._picture

    def drawn(self) -> Picture:
        """A copy of the picture with boxes and labels: (h, w, 3) uint8 RGB. Raises ImageError."""
        from shitu.draw import draw_recognition

        return draw_recognition(self.picture(), self.found)

    def show(self) -> None:
        """In a notebook below the cell, else by the system's viewer."""
        Answers([self]).show()

    def _repr_html_(self) -> str:
        name = f"<p><b>{escape(self.image)}</b></p>"
        try:
            shown = Image.fromarray(self.drawn())
        except ShituError as error:
            return f"{name}<p>{escape(str(error))}</p>"
        shown.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
        data = BytesIO()
        shown.save(data, "JPEG", quality=90)
        rows = "".join(f"<tr><td>{escape(region.label)}</td><td>{region.score:.3f}</td></tr>" for region in self)
        source = base64.b64encode(data.getvalue()).decode()
        return f'{name}<img src="data:image/jpeg;base64,{source}"><table>{rows}</table>'


class Answers(Sequence[Answer]):
    """The answers of one call, in the order of the pictures."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = tuple(answers)

    @overload
    def __getitem__(self, place: int) -> Answer: ...
    @overload
    def __getitem__(self, place: slice) -> Answers: ...
    def __getitem__(self, place: int | slice) -> Answer | Answers:
        return Answers(self._answers[place]) if isinstance(place, slice) else self._answers[place]

    def __len__(self) -> int:
        return len(self._answers)

    def __repr__(self) -> str:
        lines = [f"{one.image}: {one.error or ', '.join(one.labels) or '(nothing)'}" for one in self[:_SHOWN]]
        more = [f"... and {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return "\n".join([*lines, *more]) or "(no pictures)"

    def save(self, folder: str | Path = "output") -> list[Path]:
        """Write the annotated pictures into `folder`, under their own names; returns their paths.

        Pictures that failed are left out. Nothing but older annotated pictures is replaced. Raises ShituError.
        """
        from shitu.draw import AnnotatedWriter

        writer = AnnotatedWriter(folder)
        return [writer.write(one.image, one.drawn()) for one in self if not one.error]

    def show(self) -> None:
        """In a notebook below the cell, else by the system's viewer."""
        if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
            sys.modules["IPython"].display.display(self)
            return
        for one in self[:_SHOWN]:
            Image.fromarray(one.drawn()).show(one.image)

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each region: image, label, score, det_score, left, top, right, bottom (pixels)."""
        try:
            import pandas
        except ImportError:
            raise ShituError("to_pandas() needs pandas, which is not installed: pip install pandas") from None
        columns = ["image", "label", "score", "det_score", "left", "top", "right", "bottom"]
        rows = [(one.image, each.label, each.score, each.det_score, *each.bbox) for one in self for each in one]
        return pandas.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        more = f"<p>... and {len(self) - _SHOWN} more</p>" if len(self) > _SHOWN else ""
        return "".join(one._repr_html_() for one in self[:_SHOWN]) + more
