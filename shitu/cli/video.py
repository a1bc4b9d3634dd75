"""`shitu predict --every`: a video file, a camera or a stream -> an event for each thing that gets a name."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from shitu.cli import out
from shitu.cli.options import reading, together
from shitu.errors import UsageError

if TYPE_CHECKING:
    from shitu.config import Config
    from shitu.video.watch import Event, Watched

_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "min": 60.0}


@dataclass(frozen=True)
class Watching:
    """How often to look (seconds), how many of how many frames must agree on a name, where the video goes."""

    every: float
    agree: tuple[int, int]
    video: str | None


def read_watching(every: str | None, agree: str, video: str | None) -> Watching | None:
    """None where --every is not given. Raises UsageError."""
    if every is None:
        if video:
            raise UsageError("--video goes with --every, which says how often to look, e.g. --every 0.5s")
        return None
    amount = re.fullmatch(r"(\d+|\d*\.\d+)\s*(ms|s|min|)", every.strip())
    seconds = float(amount[1]) * _UNITS[amount[2]] if amount else 0.0
    if not 0.001 <= seconds <= 86_400:
        raise UsageError(f"--every {every}: wanted a time such as 0.5s, 200ms or 1min")
    votes = re.fullmatch(r"(\d{1,3})/(\d{1,3})", agree)
    if not votes or not 1 <= int(votes[1]) <= int(votes[2]):
        raise UsageError(f"--agree {agree}: wanted M/N, such as 3/5: a name that 3 of the last 5 frames agree on")
    return Watching(seconds, (int(votes[1]), int(votes[2])), video)


watching_options = reading(
    together(
        click.option(
            "--every", metavar="TIME", help="Watch a video, a stream (rtsp://...) or a camera (0): look every 0.5s."
        ),
        click.option(
            "--agree", metavar="M/N", default="3/5", show_default=True, help="--every: frames that agree on a name."
        ),
        click.option("--video", metavar="FILE", help="--every: write the annotated video, .mp4 or .avi."),
    ),
    "watching",
    read_watching,
)


def run_watch(
    config: Config, inputs: tuple[str, ...], watching: Watching, *, style: str, pictures: bool, unnamed: bool
) -> None:
    """Print an event as soon as a thing has a name, until the video ends or Ctrl-C is pressed."""
    from shitu.draw import AnnotatedWriter, draw_recognition
    from shitu.recognise.from_config import SystemPredictor
    from shitu.video.capture import shown_name
    from shitu.video.frames import frames
    from shitu.video.record import VideoRecorder
    from shitu.video.watch import watch

    if unnamed:
        raise UsageError("--unnamed is of photos; with --every only things that have got a name are told")
    if style not in ("json", "table"):
        raise UsageError(f"--format {style}: events of --every come as json or table")
    if len(inputs) != 1:
        raise UsageError("--every watches one video, stream or camera; name one")
    name = shown_name(inputs[0])
    if watching.video and os.path.exists(inputs[0]) and os.path.realpath(inputs[0]) == os.path.realpath(watching.video):
        raise UsageError(f"--video {watching.video}: is the video that is read; name another file")
    writer = AnnotatedWriter(config.Global.output_dir) if pictures and config.Global.output_dir else None
    seen = frames(inputs[0], watching.every)
    recogniser = SystemPredictor(config)
    looked, embedded, names = 0, 0, Counter[str]()
    with ExitStack() as stack:
        video = stack.enter_context(VideoRecorder(watching.video, watching.every)) if watching.video else None
        bar = stack.enter_context(out.progress(None, name, "frames"))
        try:
            for one in watch(recogniser, seen, name, watching.agree):
                picture = None
                if video or (writer and one.first):
                    drawn = draw_recognition(one.frame.picture, one.found)
                    picture = writer.write(_picture_name(name, one), drawn) if writer and one.first else None
                    if video:
                        video.write(drawn)
                for event in one.events:
                    _tell(style, name, event, str(picture) if picture and event.first else None)
                looked, embedded = looked + 1, embedded + one.embedded
                names.update(event.label for event in one.events)
                bar.update()
        finally:
            counts = f"{out.plural(looked, 'frame')} looked at, {out.plural(embedded, 'crop')} embedded"
            out.log.info(
                "%s: %s; %s, %s", name, counts, out.plural(names.total(), "event"), out.plural(len(names), "name")
            )


def _picture_name(name: str, one: Watched) -> str:
    """`shelf_12.4s.jpg`, of the video shelf.mp4."""
    stem = os.path.splitext(re.sub(r"[/\\:?*]+", "_", os.path.basename(name.rstrip("/"))))[0]
    return f"{stem or 'video'}_{one.frame.t:.1f}s.jpg"


def _tell(style: str, name: str, event: Event, picture: str | None) -> None:
    record: dict[str, Any] = {"video": name, **event.to_dict(), **({"picture": picture} if picture else {})}
    first = "  (for the first time)" if event.first else ""
    out.show(style, record, lambda: f"{event.t:8.1f} s  track {event.track:3}  {event.label}  {event.score:.3f}{first}")
