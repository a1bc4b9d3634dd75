"""The page Try in a real browser, against a real service: naming by a click, drawing, undoing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from tests.conftest import DEMO
from tests.studio.looking import KITCHEN, Server, expect, looking, pictures_of, show, visit

HONEY = [94, 144, 231, 284]  # of demo/photos.txt: the honey pot in KITCHEN


@pytest.fixture
def mirrored(tmp_path: Path) -> Path:
    """The same shelf as another photo shows it: from the other side, and smaller."""
    path = tmp_path / "mirrored.jpg"
    with Image.open(KITCHEN) as photo:
        ImageOps.mirror(photo).resize((720, 540)).save(path, quality=90)
    return path


def box_at(page: Any, box: list[int]) -> Any:
    """The button of the box that overlaps this one, in pixels of KITCHEN, most."""
    area = page.locator(".stage canvas").bounding_box()
    scale = area["width"] / 900
    best = max(page.locator(".stage .box").all(), key=lambda each: shared(each.bounding_box(), area, box, scale))
    assert shared(best.bounding_box(), area, box, scale) > 0.5
    return best


def shared(found: dict[str, float], area: dict[str, float], box: list[int], scale: float) -> float:
    """IoU of a box on the screen with one in the photo."""
    left, top = (found["x"] - area["x"]) / scale, (found["y"] - area["y"]) / scale
    right, bottom = left + found["width"] / scale, top + found["height"] / scale
    return iou([left, top, right, bottom], box)


def iou(one: list[float], other: list[int]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    both = max(wide, 0) * max(high, 0)
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (one, other)]
    return both / (sum(areas) - both)


def learn(page: Any, box: list[int], label: str) -> None:
    box_at(page, box).click()
    page.keyboard.type(label)
    page.keyboard.press("Enter")
    expect(page.locator(".toast").last).to_contain_text(label)


def test_a_thing_taught_by_a_click_is_named_in_the_next_photo(page: Any, server: Server, mirrored: Path) -> None:
    gallery = server.make()
    visit(page, "try", gallery)
    show(page, KITCHEN)
    expect(page.locator(".box.named")).to_have_count(0)  # it knows nothing yet
    learn(page, HONEY, "honey pot")
    expect(page.locator(".box.named")).to_have_text(re.compile("honey pot 1.00"))
    assert server.labels(gallery) == {"honey pot": 1}
    assert iou(server.items(gallery)[0]["bbox"], HONEY) > 0.5
    show(page, mirrored)
    expect(page.locator(".box.named")).to_have_text(re.compile("honey pot"))


def test_undo_forgets_what_was_taught(page: Any, server: Server) -> None:
    gallery = server.make()
    visit(page, "try", gallery)
    show(page, KITCHEN)
    learn(page, HONEY, "honey pot")
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator(".toast").last).to_contain_text("Forgotten")
    expect(page.locator(".box.named")).to_have_count(0)
    assert server.labels(gallery) == {}


def test_a_wrong_name_is_corrected_where_it_is_seen_and_the_correction_undone(page: Any, server: Server) -> None:
    gallery = server.make()
    visit(page, "try", gallery)
    show(page, KITCHEN)
    learn(page, HONEY, "jam")
    learn(page, HONEY, "蜂蜜")
    expect(page.locator(".box.named")).to_have_text(re.compile("蜂蜜 1.00"))
    assert server.labels(gallery) == {"蜂蜜": 1}
    page.locator(".toast").last.get_by_role("button", name="Undo").click()
    expect(page.locator(".box.named")).to_have_text(re.compile("jam 1.00"))
    assert server.labels(gallery) == {"jam": 1}


def test_the_threshold_acts_at_once_and_asks_nobody(page: Any, server: Server) -> None:
    gallery = server.make()
    server.teach(gallery, "honey pot", *pictures_of("honey_pot"))
    visit(page, "try", gallery)
    show(page, KITCHEN)
    expect(page.locator(".box.named")).to_have_count(1)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    slider = page.locator("#threshold")
    slider.fill("0.99")
    expect(page.locator(".box.named")).to_have_count(0)
    slider.fill("0")
    boxes = page.locator(".stage .box").count()
    expect(page.locator(".box.named")).to_have_count(boxes)
    page.locator("#threshold-reset").click()
    expect(page.locator(".box.named")).to_have_count(1)
    assert asked == []


def test_a_box_drawn_with_the_mouse_is_learnt(page: Any, server: Server) -> None:
    gallery = server.make()
    visit(page, "try", gallery)
    show(page, KITCHEN)
    area = page.locator(".stage canvas").bounding_box()
    scale = area["width"] / 900
    box = [20, 30, 80, 100]  # wall: the detector sees nothing there
    page.get_by_role("button", name="Draw a box").click()
    page.mouse.move(area["x"] + box[0] * scale, area["y"] + box[1] * scale)
    page.mouse.down()
    page.mouse.move(area["x"] + box[2] * scale, area["y"] + box[3] * scale, steps=4)
    page.mouse.up()
    page.keyboard.type("wall")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("Learnt: wall")
    assert iou(server.items(gallery)[0]["bbox"], box) > 0.9
    expect(page.locator(".box.named", has_text="wall 1.00")).to_have_count(1)


def test_all_of_it_by_keyboard(page: Any, server: Server) -> None:
    gallery = server.make()
    visit(page, "try", gallery)
    show(page, KITCHEN)
    page.locator(".stage .box").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Type a name")).to_be_focused()
    page.keyboard.type("first")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("Learnt: first")
    page.locator("#draw").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".rubber")).to_be_focused()
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.keyboard.type("second")
    page.keyboard.press("Enter")
    expect(page.locator(".toast").last).to_contain_text("Learnt: second")
    box = next(each["bbox"] for each in server.items(gallery) if each["label"] == "second")
    assert iou(box, [306, 227, 594, 448]) > 0.9  # the middle of 900 x 675, and a hundredth of 900 each time


def test_names_are_suggested(page: Any, server: Server) -> None:
    gallery = server.make()
    server.teach(gallery, "honey pot", DEMO / "gallery/google/honey_pot.jpg")
    server.teach(gallery, "hammer", DEMO / "gallery/google/hammer.jpg")
    visit(page, "try", gallery)
    show(page, KITCHEN)
    box_at(page, HONEY).click()
    page.keyboard.press("Control+a")
    page.keyboard.type("ham")
    expect(page.locator(".choices .name")).to_have_text(["hammer"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("Learnt: hammer")
    assert server.labels(gallery)["hammer"] > 1


def test_a_photo_from_the_camera(page: Any, server: Server) -> None:
    visit(page, "try", server.make())
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the photo").click()
    expect(page.locator(".boxes")).to_have_attribute("aria-label", re.compile("Boxes in camera-"))
    expect(page.locator("#work")).to_have_attribute("aria-busy", "false")
    assert page.locator(".stage canvas").bounding_box()["height"] > 100


def test_a_box_drawn_with_a_finger(browser: Any, server: Server) -> None:
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    with looking(browser, server, **phone) as page:
        visit(page, "try", server.make())
        show(page, KITCHEN)
        count = page.locator(".stage .box").count()
        page.get_by_role("button", name="Draw a box").tap()
        area = page.locator(".stage canvas").bounding_box()
        fingers = page.context.new_cdp_session(page)
        for kind, x, y in (("Start", 5, 5), ("Move", 30, 30), ("Move", 60, 60), ("End", 60, 60)):
            points = [] if kind == "End" else [{"x": area["x"] + x, "y": area["y"] + y}]
            fingers.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
        expect(page.locator(".stage .box")).to_have_count(count + 1)
        expect(page.get_by_role("combobox", name="Type a name")).to_be_focused()
        page.get_by_role("button", name="Remove this box").click()
        expect(page.locator(".stage .box")).to_have_count(count)


def test_other_photos_follow_when_they_are_looked_at(page: Any, server: Server, mirrored: Path) -> None:
    visit(page, "try", server.make())
    page.locator("input.photos").first.set_input_files([KITCHEN, mirrored])
    expect(page.locator(".boxes")).to_have_attribute("aria-label", f"Boxes in {KITCHEN.name}")
    expect(page.locator("#work")).to_have_attribute("aria-busy", "false")
    learn(page, HONEY, "honey pot")
    page.get_by_role("button", name=f"Show {mirrored.name}").click()
    expect(page.locator(".box.named")).to_have_text(re.compile("honey pot"))
    expect(page.locator(".boxes")).to_have_attribute("aria-label", f"Boxes in {mirrored.name}")
