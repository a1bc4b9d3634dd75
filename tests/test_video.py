"""Video: files, a stream that drops and comes back, tracks, events, and files that lie."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import shitu
from shitu.build.builder import GalleryBuilder
from shitu.cli import main
from shitu.cli.video import read_watching
from shitu.config import load_config
from shitu.errors import ShituError, UsageError
from shitu.images.read import read_image
from shitu.recognise.from_config import SystemPredictor
from shitu.video import capture as capture_module
from shitu.video.capture import Capture, Frame
from shitu.video.frames import frames
from shitu.video.record import VideoRecorder
from shitu.video.tracks import Tracks
from shitu.video.watch import watch
from tests.conftest import DEMO, Run, index_overrides

PHOTOS = {name: cv2.resize(read_image(DEMO / "photos" / f"{name}.jpg"), (900, 676)) for name in ("picnic", "desk")}


def film(path: Path, pictures: Sequence[Any], rate: float = 10, codec: str = "MJPG") -> Path:
    """A video of (h, w, 3) RGB pictures."""
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (width, height))
    for picture in pictures:
        writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
    writer.release()
    return path


def grey(level: int) -> Any:
    return np.full((48, 64, 3), level, np.uint8)


# --- frames ---


@pytest.mark.parametrize(("name", "codec"), [("片.avi", "MJPG"), ("clip.mp4", "mp4v")])
def test_a_file_gives_the_frames_that_are_due(tmp_path: Path, name: str, codec: str) -> None:
    """Thirty frames at 10 a second, each brighter by 8 than the one before."""
    path = str(film(tmp_path / name, [grey(8 * number) for number in range(30)], codec=codec))
    for every, numbers in ((0.5, range(0, 30, 5)), (0.1, range(30)), (0.01, range(30)), (0.25, None), (60, [0])):
        got = list(frames(path, every))
        levels = [frame.picture.mean() / 8 for frame in got]
        if numbers is None:  # not a multiple of a frame's time: as many as there are quarters of a second
            assert len(got) == 12
        else:
            assert levels == pytest.approx(list(numbers), abs=0.6)
        assert [frame.t for frame in got] == pytest.approx([round(level) / 10 for level in levels], abs=1e-3)


def test_colours_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[:, :, 0] = 250
    (frame,) = frames(str(film(tmp_path / "a.avi", [red])), 1)
    assert frame.picture.reshape(-1, 3).mean(axis=0) == pytest.approx([250, 0, 0], abs=8)


def test_a_file_that_is_cut_short_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = film(tmp_path / "a.avi", [PHOTOS["desk"]] * 20).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    assert 5 <= len(list(frames(str(tmp_path / "cut.avi"), 0.1))) < 15


def test_a_playlist_reads_no_other_file(tmp_path: Path) -> None:
    """FFmpeg would open what they name; OpenCV by itself does."""
    film(tmp_path / "a.avi", [grey(9)] * 5)
    lists = {
        "a.ffconcat": "ffconcat version 1.0\nfile a.avi\n",
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{tmp_path}/a.avi\n#EXT-X-ENDLIST\n",
        "b.mp4": "ffconcat version 1.0\nfile a.avi\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ShituError, match="cannot be opened as a video"):
            frames(str(tmp_path / name), 1)
    for source in ("concat:a.avi", "file:///etc/passwd", "udp://127.0.0.1:9", "nowhere.mp4"):
        with pytest.raises(ShituError, match="no such file"):
            frames(source, 1)


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ShituError, match=r"text\.mp4: cannot be opened as a video: damaged"):
        Capture(str(tmp_path / "text.mp4"))
    with pytest.raises(ShituError, match=r"^camera 97: cannot be opened"):
        Capture("97")
    with pytest.raises(ShituError, match=r"^rtsp://127\.0\.0\.1:9/live: cannot be opened") as caught:
        Capture("rtsp://admin:secret@127.0.0.1:9/live?key=secret")
    assert "secret" not in str(caught.value)
    monkeypatch.setattr(capture_module, "MAX_PIXELS", 3000)
    with pytest.raises(ShituError, match="64 x 48 pixels, at most"):
        Capture(str(film(tmp_path / "large.avi", [grey(1)])))


def test_random_damage_ends(tmp_path: Path) -> None:
    sound = np.frombuffer(film(tmp_path / "a.avi", [grey(8 * number) for number in range(20)]).read_bytes(), np.uint8)
    rng = np.random.default_rng(5)
    for _ in range(40):
        broken = sound.copy()
        broken[rng.integers(0, len(sound), 30)] = rng.integers(0, 256, 30)
        (tmp_path / "b.avi").write_bytes(broken.tobytes())
        with contextlib.suppress(ShituError):
            for frame in frames(str(tmp_path / "b.avi"), 0.1):
                assert frame.t >= 0
                assert frame.picture.ndim == 3


# --- live ---


class Camera:
    """An MJPEG server on loopback, as network cameras have: `picture(n)` is its n-th frame, 50 a second."""

    def __init__(self, picture: Callable[[int], Any], port: int = 0) -> None:
        self.sent, self.on = 0, True
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    while camera.on:
                        data = cv2.imencode(".jpg", picture(camera.sent)[:, :, ::-1])[1].tobytes()
                        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                        self.wfile.write(head + data + b"\r\n")
                        camera.sent += 1
                        time.sleep(0.02)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def unplug(self) -> None:
        self.on = False
        self.server.shutdown()
        self.server.server_close()


def test_of_what_is_live_the_newest_frame_counts() -> None:
    """Whoever is slow misses frames, and does not fall behind."""
    camera = Camera(lambda number: grey(min(number, 250)))
    live = frames(f"http://127.0.0.1:{camera.port}/", 0.01)
    levels = []
    for frame in live:
        levels.append(round(frame.picture.mean()))
        if len(levels) == 4:
            break
        time.sleep(0.4)
    live.close()  # type: ignore[attr-defined]
    camera.unplug()
    assert all(later - earlier > 4 for earlier, later in itertools.pairwise(levels)), levels


def test_a_stream_that_drops_is_connected_again(caplog: pytest.LogCaptureFixture) -> None:
    camera = Camera(lambda number: grey(50))
    live = frames(f"http://127.0.0.1:{camera.port}/", 0.01, pauses=(0.05,))
    assert next(live).picture.mean() == pytest.approx(50, abs=2)
    camera.unplug()
    back = Camera(lambda number: grey(200), camera.port)
    times = [0.0]
    for frame in live:
        times.append(frame.t)
        if frame.picture.mean() > 150:
            break
    live.close()  # type: ignore[attr-defined]
    back.unplug()
    assert times == sorted(times)
    assert "connecting again" in caplog.text


# --- tracks ---


def test_overlapping_boxes_are_one_track() -> None:
    tracks = Tracks((1, 2))
    left, right = (0, 0, 100, 100), (200, 0, 300, 100)
    assert [track.number for track in tracks.follow([left, right])] == [1, 2]
    assert [track.number for track in tracks.follow([(210, 5, 310, 105), (5, 5, 105, 105)])] == [2, 1]
    assert [track.number for track in tracks.follow([(400, 0, 500, 100)])] == [3]
    assert [track.number for track in tracks.follow([left])] == [1]  # gone for one frame: still the same
    assert tracks.follow([]) == []
    assert tracks.follow([]) == []
    assert tracks.live == []
    assert [track.number for track in tracks.follow([left, left])] == [4, 5]  # a track takes one box


def test_a_name_needs_m_of_n_frames() -> None:
    """Against counting by hand; None: seen and not recognised."""
    seen = ["a", None, "b", "a", "a", "b", "b", None, "b", "c", "c", "c"]
    tracks = Tracks((3, 5))
    told = []
    for label in seen:
        (track,) = tracks.follow([(0, 0, 9, 9)])
        told += [track.name for _ in tracks.vote({track.number: label} if label else {})]
    by_hand, name = [], None
    for end in range(1, len(seen) + 1):
        window = seen[max(0, end - 5) : end]
        if seen[end - 1] not in (None, name) and window.count(seen[end - 1]) >= 3:
            name = seen[end - 1]
            by_hand.append(name)
    assert told == by_hand == ["a", "b", "c"]


# --- events ---


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> SystemPredictor:
    folder = tmp_path_factory.mktemp("video")
    config = load_config(None, index_overrides(DEMO / "gallery.txt", folder / "index"))
    GalleryBuilder(config).run()
    return SystemPredictor(config)


def counted(recogniser: SystemPredictor, pictures: Sequence[Any], agree: tuple[int, int]) -> tuple[list[Any], int]:
    seen = list(watch(recogniser, [Frame(number / 2, each) for number, each in enumerate(pictures)], "a", agree))
    return [event for one in seen for event in one.events], sum(one.embedded for one in seen)


def test_a_still_picture_is_named_once_and_embedded_once(recogniser: SystemPredictor) -> None:
    (once,) = recogniser.predict([PHOTOS["picnic"]])
    events, embedded = counted(recogniser, [PHOTOS["picnic"]] * 8, (3, 5))
    assert {(event.label, event.bbox) for event in events} == {(each.label, each.bbox) for each in once.regions}
    assert {event.t for event in events} == {1.0}  # the third frame
    assert all(event.first for event in events)
    assert embedded == len(recogniser.candidates(PHOTOS["picnic"]))


def test_python_watches(tmp_path: Path, recogniser: SystemPredictor) -> None:
    path = film(tmp_path / "a.avi", [PHOTOS["desk"]] * 20)
    seen = list(shitu.open(recogniser.gallery.url).watch(path, every=0.5))
    assert [one.frame.t for one in seen] == pytest.approx([0, 0.5, 1, 1.5])
    (once,) = recogniser.predict([seen[3].frame.picture])
    assert {each.label for each in seen[3].found.regions} == {each.label for each in once.regions}
    with pytest.raises(ShituError, match="camera 97"):
        shitu.open(recogniser.gallery.url).watch(97)


def test_what_comes_back_is_no_longer_first(recogniser: SystemPredictor) -> None:
    labels = {name: {each.label for each in recogniser.predict([photo])[0].regions} for name, photo in PHOTOS.items()}
    scene = ("picnic", "desk", "picnic")
    events, _ = counted(recogniser, [PHOTOS[name] for name in scene for _ in range(6)], (2, 3))
    for number, name in enumerate(scene):
        there = [event for event in events if number * 3 <= event.t < number * 3 + 3]
        assert {event.label for event in there} == labels[name]
        assert {event.first for event in there} == {number < 2}


def test_one_frame_alone_names_nothing(recogniser: SystemPredictor) -> None:
    assert counted(recogniser, [PHOTOS["picnic"], PHOTOS["desk"]], (2, 3))[0] == []
    assert counted(recogniser, [], (2, 3)) == ([], 0)


def test_an_annotated_video(tmp_path: Path) -> None:
    pictures = [PHOTOS["picnic"], PHOTOS["desk"], cv2.resize(PHOTOS["desk"], (450, 338))]
    for name in ("a.mp4", "画.avi"):
        with VideoRecorder(str(tmp_path / name), 0.5) as video:
            for picture in pictures:
                video.write(picture)
        again = list(frames(str(tmp_path / name), 0.5))
        assert [frame.t for frame in again] == pytest.approx([0, 0.5, 1])
        for frame, picture in zip(again, [PHOTOS["picnic"], PHOTOS["desk"], PHOTOS["desk"]], strict=True):
            assert np.abs(frame.picture.astype(int) - picture).mean() < 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "画.avi"]
    for wrong in ("a.gif", "nowhere/a.mp4"):
        with pytest.raises(UsageError, match="--video"):
            VideoRecorder(str(tmp_path / wrong), 1)


# --- the command ---


@pytest.mark.parametrize(("text", "seconds"), [("0.5s", 0.5), ("2", 2), (".25", 0.25), ("200ms", 0.2), ("1min", 60)])
def test_times(text: str, seconds: float) -> None:
    watching = read_watching(text, "3/5", None)
    assert watching is not None
    assert watching.every == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("every", "agree", "video"),
    [
        ("fast", "3/5", None),
        ("0s", "3/5", None),
        ("-1", "3/5", None),
        ("1s", "5/3", None),
        ("1s", "0/3", None),
        (None, "3/5", "a.mp4"),
    ],
)
def test_options_that_mean_nothing(every: str | None, agree: str, video: str | None) -> None:
    with pytest.raises(UsageError):
        read_watching(every, agree, video)


def gallery_of(recogniser: SystemPredictor) -> str:
    return f"IndexProcess.index_dir={recogniser.gallery.url}"


def test_the_command_prints_events_and_draws(shitu: Run, tmp_path: Path, recogniser: SystemPredictor) -> None:
    film(tmp_path / "架.avi", [PHOTOS["desk"]] * 30)
    done = shitu("predict", "-o", gallery_of(recogniser), "--every", "0.5s", "--video", "out.mp4", "架.avi")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (once,) = recogniser.predict([list(frames(str(tmp_path / "架.avi"), 0.5))[2].picture])
    assert {event["label"] for event in events} == {each.label for each in once.regions}
    assert all((event["video"], event["t"], event["first"]) == ("架.avi", 1.0, True) for event in events)
    assert {event["picture"] for event in events} == {"output/架_1.0s.jpg"}
    assert read_image(tmp_path / "output/架_1.0s.jpg").shape == (676, 900, 3)
    assert len(list(frames(str(tmp_path / "out.mp4"), 0.5))) == 6
    assert "6 frames looked at" in done.stderr
    (tmp_path / "text.mp4").write_text("no video")
    whole, text = str(tmp_path / "架.avi"), str(tmp_path / "text.mp4")
    for words in (["--every", "1s", "--video", whole, whole], ["--every", "1s", whole, whole], ["--every", "1s", text]):
        assert CliRunner().invoke(main, ["predict", "-o", gallery_of(recogniser), *words]).exit_code in (1, 2)
    told = CliRunner().invoke(main, ["predict", "-o", gallery_of(recogniser), "--no-pictures", whole]).stderr
    assert "a video; `shitu predict --every 0.5s VIDEO` follows it" in told


def test_a_stream_goes_on_until_it_is_interrupted(tmp_path: Path, recogniser: SystemPredictor) -> None:
    """A camera that is unplugged and comes back, and Ctrl-C: the video is whole."""
    camera = Camera(lambda number: PHOTOS["picnic"])
    words = ["predict", "-o", gallery_of(recogniser), "--every", "0.1s", "--video", "out.avi"]
    command = [sys.executable, "-m", "shitu", *words, f"http://u:secret@127.0.0.1:{camera.port}/live"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stderr is not None
    first = json.loads(running.stdout.readline())
    assert first["first"] is True
    camera.unplug()
    back = Camera(lambda number: PHOTOS["desk"], camera.port)
    labels = {each.label for each in recogniser.predict([PHOTOS["desk"]])[0].regions}
    while json.loads(running.stdout.readline())["label"] not in labels:
        pass
    running.send_signal(signal.SIGINT)
    rest, told = running.communicate(timeout=60)
    back.unplug()
    assert running.returncode == 130
    assert "connected again" in told
    assert "secret" not in told + rest + json.dumps(first)
    assert len(list(frames(str(tmp_path / "out.avi"), 0.1))) > 4
