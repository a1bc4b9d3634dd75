"""The studio in a real browser, against a real service: teaching by a click, drawing, undoing, keeping a gallery."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image, ImageOps

from shitu.gallery import Item
from shitu.gallery.write.writer import FolderWriter
from shitu.serve.studio import routes
from tests.conftest import DEMO
from tests.studio_server import KITCHEN, WAIT_MS, Server, chromium, looking, serving, sync_api

expect = sync_api.expect
HONEY = [94, 144, 231, 284]  # of demo/photos.txt: the honey pot in KITCHEN
OBJECT = "li.object"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("studio")
    with serving(folder, "--collect", str(folder / "collected"), "--collect-below", "0.9") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    with looking(browser, server) as found:
        yield found


@pytest.fixture
def mirrored(tmp_path: Path) -> Path:
    """The same shelf as another photo shows it: from the other side, and smaller."""
    path = tmp_path / "mirrored.jpg"
    with Image.open(KITCHEN) as photo:
        ImageOps.mirror(photo).resize((720, 540)).save(path, quality=90)
    return path


def visit(page: Any, name: str, gallery: str, **more: str) -> None:
    query = "&".join(f"{key}={quote(value)}" for key, value in {"g": gallery, **more}.items())
    page.goto(f"/studio/{name}?{query}")
    expect(page.locator("#gallery")).to_have_value(gallery)


def show(page: Any, photo: Path) -> None:
    """Choose a photo on the page Try, and wait for its boxes."""
    page.locator("input.photos").first.set_input_files(photo)
    expect(page.locator(".boxes")).to_have_attribute("aria-label", f"Boxes in {photo.name}")
    expect(page.locator("#work")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".stage .box").first).to_be_visible()


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


# --- try --------------------------------------------------------------------------------------------------------------


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
    server.teach(gallery, "honey pot", *sorted(DEMO.glob("gallery/*/honey_pot.*")))
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


# --- gallery ----------------------------------------------------------------------------------------------------------


def pictures_of(name: str) -> list[Path]:
    return sorted(DEMO.glob(f"gallery/*/{name}.*"))


@pytest.fixture
def fruit(server: Server) -> str:
    gallery = server.make()
    for name in ("banana", "tangerine", "avocado"):
        server.teach(gallery, name, *pictures_of(name), box="[0,0,9999,9999]")  # one entry each, the whole picture
    return gallery


def test_a_label_is_renamed_merged_and_brought_back(page: Any, server: Server, fruit: str) -> None:
    visit(page, "gallery", fruit)
    page.get_by_role("link", name="tangerine").click()
    page.get_by_role("button", name="Rename").click()
    page.keyboard.type("橘子")
    page.keyboard.press("Enter")
    expect(page.locator("#label-name")).to_have_text("橘子")
    assert server.labels(fruit) == {"avocado": 3, "banana": 3, "橘子": 3}
    page.get_by_role("button", name="Merge").click()
    page.keyboard.type("banana")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("banana is there already")
    page.get_by_role("button", name="Merge them").click()
    expect(page.locator("#label-name")).to_have_text("banana")
    expect(page.locator("#items li")).to_have_count(6)
    assert server.labels(fruit) == {"avocado": 3, "banana": 6}
    page.locator(".toast").last.get_by_role("button", name="Undo").click()
    expect(page.locator("#items li")).to_have_count(3)
    assert server.labels(fruit) == {"avocado": 3, "banana": 3, "橘子": 3}


def test_chosen_pictures_are_moved_and_deleted(page: Any, server: Server, fruit: str) -> None:
    visit(page, "gallery", fruit, label="banana")
    expect(page.locator("#items li")).to_have_count(3)
    page.locator("#items input").first.check()
    page.get_by_role("button", name="Invert").click()
    expect(page.locator("#chosen-count")).to_have_text("2 chosen")
    page.get_by_role("combobox", name="Move to").fill("plantain")
    page.get_by_role("button", name="Move", exact=True).click()
    expect(page.locator("#items li")).to_have_count(1)
    assert server.labels(fruit)["plantain"] == 2
    page.get_by_role("button", name="All", exact=True).click()
    page.locator("#remove").click()
    expect(page.locator("#labels")).to_be_visible()  # the label is gone, here are the others
    assert server.labels(fruit) == {"avocado": 3, "plantain": 2, "tangerine": 3}
    page.locator(".toast").last.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("link", name="banana")).to_be_visible()


def test_pictures_dropped_on_a_label_are_added(page: Any, server: Server, fruit: str) -> None:
    visit(page, "gallery", fruit, label="banana")
    expect(page.locator("#items li")).to_have_count(3)
    drop(page, pictures_of("lemon") or pictures_of("cheese_wedge"))
    expect(page.locator(".toast")).to_contain_text("added to banana")
    assert server.labels(fruit)["banana"] > 3


def drop(page: Any, files: list[Path]) -> None:
    """What the browser does when files are dropped on the page."""
    transfer = page.evaluate_handle("() => new DataTransfer()")
    for path in files:
        add = "([all, name, bytes]) => all.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'}))"
        page.evaluate(add, [transfer, path.name, list(path.read_bytes())])
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def test_labels_are_found_and_sorted(page: Any, server: Server, fruit: str) -> None:
    server.teach(fruit, "zebra", *pictures_of("axe")[:1], box="[0,0,9999,9999]")
    visit(page, "gallery", fruit)
    names = page.locator("#grid .name")
    expect(names).to_have_text(["avocado", "banana", "tangerine", "zebra"])  # most pictures first
    page.get_by_label("Sort by").select_option("newest")
    expect(names.first).to_have_text("zebra")
    page.get_by_role("searchbox").fill("NAN")
    expect(names).to_have_text(["banana"])
    page.get_by_role("searchbox").fill("nothing like it")
    expect(page.locator("#empty")).to_be_visible()


def test_galleries_are_made_renamed_and_deleted(page: Any, server: Server, fruit: str) -> None:
    visit(page, "gallery", fruit)
    page.locator("#gallery").select_option("New gallery …")
    page.get_by_role("textbox", name="Name").fill("饮料")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#gallery")).to_have_value("饮料")
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Rename gallery").click()
    page.get_by_role("textbox", name="Name").fill("Drinks 2")
    page.get_by_role("button", name="Rename", exact=True).last.click()
    expect(page.locator("#gallery")).to_have_value("Drinks 2")
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Delete gallery").click()
    page.get_by_label("Type its name").fill("Drinks 2")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".toast").last).to_contain_text("Drinks 2 is deleted")
    names = [each["name"] for each in server.api.get("galleries").json()["galleries"]]
    assert fruit in names
    assert not {"饮料", "Drinks 2"} & set(names)


def test_the_last_change_is_undone_and_done_again(page: Any, server: Server, fruit: str) -> None:
    server.teach(fruit, "axe", *pictures_of("axe")[:1], box="[0,0,9999,9999]")
    visit(page, "gallery", fruit)
    page.get_by_role("button", name="Undo the last change").click()
    expect(page.locator("#grid .name")).to_have_text(["avocado", "banana", "tangerine"])
    page.locator(".toast").get_by_role("button", name="Redo").click()
    expect(page.locator("#grid .name")).to_have_text(["avocado", "banana", "tangerine", "axe"])


def test_five_thousand_entries_scroll(page: Any, server: Server) -> None:
    gallery = server.make()
    many_entries(server.root / gallery, 5000)
    visit(page, "gallery", gallery)
    expect(page.locator("#counts")).to_have_text("5,000 labels, 5,000 pictures")
    page.get_by_label("Sort by").select_option("name")
    cards = page.locator("#grid li")
    expect(cards.first).to_have_text(re.compile("thing 0000"))
    while (before := cards.count()) < 5000:
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_function("before => document.querySelectorAll('#grid li').length > before", arg=before)
    expect(cards.last).to_have_text(re.compile("thing 4999"))
    cards.last.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('#grid li:last-child img').naturalWidth")


def many_entries(folder: Path, count: int) -> None:
    """So many labels of one entry each, all of them with the same picture."""
    picture = pictures_of("axe")[0]
    digest = sha256(picture.read_bytes()).hexdigest()
    (folder / "photos").mkdir(exist_ok=True)
    (folder / "photos" / "axe.png").write_bytes(picture.read_bytes())
    vectors = np.random.default_rng(0).standard_normal((count, 512), np.float32)
    items = [Item(f"thing {number:04}", "photos/axe.png", digest) for number in range(count)]
    with FolderWriter(folder) as writer:
        change = writer.begin()
        change.add(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), items)
        change.commit()


# --- doubts, map, review, measure ------------------------------------------------------------------------------------


@pytest.fixture
def doubtful(server: Server, fruit: str) -> str:
    """Bananas, of which one is called a tangerine."""
    entry = next(each for each in server.items(fruit) if each["label"] == "banana")
    told = server.api.patch(f"galleries/{fruit}/items", json={"ids": [entry["id"]], "label": "tangerine"})
    assert told.status_code == 200
    return fruit


def test_a_doubtful_entry_is_called_what_it_is(page: Any, server: Server, doubtful: str) -> None:
    visit(page, "gallery", doubtful)
    page.get_by_role("button", name="Doubtful entries").click()
    wrong = (
        page.locator(".doubts li")
        .filter(has_text="most like a picture of banana")
        .filter(has=page.locator("figcaption", has_text="tangerine"))
    )
    wrong.get_by_role("button", name="Call it banana").click()
    expect(page.locator(".toast").last).to_contain_text("One entry is banana now")
    assert server.labels(doubtful) == {"avocado": 3, "banana": 3, "tangerine": 3}
    expect(wrong).to_have_count(0)


def test_what_is_kept_is_not_doubtful_again(page: Any, server: Server, doubtful: str) -> None:
    visit(page, "gallery", doubtful)
    button = page.get_by_role("button", name="Doubtful entries")
    button.click()
    rows = page.locator(".doubts li")
    expect(rows.first).to_be_visible()
    count = rows.count()
    rows.first.get_by_role("button", name="Keep").click()
    expect(rows).to_have_count(count - 1)
    button.click()
    button.click()
    expect(page.locator("#doubts p")).to_be_visible()
    expect(rows).to_have_count(count - 1)
    assert len(server.items(doubtful)) == 9


def test_the_map_is_walked_lassoed_and_moved(page: Any, server: Server, fruit: str) -> None:
    visit(page, "map", fruit)
    expect(page.locator("#counts")).to_have_text("9 pictures")
    plot = page.locator("#plot")
    plot.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip b")).to_have_text(re.compile("avocado|banana|tangerine"))
    page.keyboard.press("Enter")
    expect(page.locator("#picked-count")).to_have_text("1 chosen")
    area = plot.bounding_box()
    right, low = area["x"] + area["width"] - 12, area["y"] + area["height"] - 12
    page.mouse.move(area["x"] + 12, area["y"] + 12)
    page.mouse.down()
    for corner in ((right, area["y"] + 12), (right, low), (area["x"] + 12, low)):
        page.mouse.move(*corner)
    page.mouse.up()
    expect(page.locator("#picked-count")).to_have_text("9 chosen")
    page.get_by_role("combobox", name="Move to").fill("fruit")
    page.keyboard.press("Enter")
    expect(page.locator("#legend .name")).to_have_text(["fruit"])
    assert server.labels(fruit) == {"fruit": 9}


def test_photos_of_which_it_is_unsure_are_reviewed(page: Any, server: Server) -> None:
    gallery = server.make()
    server.teach(gallery, "honey pot", *pictures_of("honey_pot"))
    asked = server.api.post(
        f"galleries/{gallery}/recognise", files={"files": ("shelf.jpg", KITCHEN.read_bytes())}, params={"unnamed": True}
    ).json()["answers"][0]
    assert [each["rec_docs"] for each in asked["regions"]] == ["honey pot"]
    visit(page, "review", gallery)
    expect(page.locator("#counts")).to_have_text("One photo to look at")
    expect(page.locator("#names li")).to_have_text(re.compile("honey pot"))
    page.keyboard.press("n")
    page.keyboard.type("something else")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("Learnt: something else")
    assert server.labels(gallery)["something else"] == 1
    page.locator("#question").focus()
    page.keyboard.press("r")
    expect(page.locator("#nothing")).to_contain_text("All looked through")
    assert server.api.get("review", params={"gallery": gallery}).json()["total"] == 0


def test_it_is_measured_and_the_worst_comes_first(page: Any, server: Server, fruit: str) -> None:
    visit(page, "measure", fruit)
    page.get_by_role("button", name="Evaluate").click()
    expect(page.locator(".figure").first).to_contain_text("Named rightly", timeout=WAIT_MS)
    report = page.frame_locator("#page")
    expect(report.get_by_role("heading", name=re.compile("Evaluation of"))).to_be_visible()
    page.get_by_role("button", name="Find the best threshold").click()
    expect(page.locator(".figure").first).to_contain_text("shitu serve --score", timeout=WAIT_MS)
    visit(page, "gallery", fruit)
    page.get_by_label("Sort by").select_option("worst named")
    expect(page.locator("#grid small", has_text="% named rightly")).to_have_count(3)
    shares = [int(text.split()[0]) for text in page.locator("#grid small", has_text="%").all_inner_texts()]
    assert shares == sorted(shares)


# --- every page -------------------------------------------------------------------------------------------------------

PAGES = ("try", "gallery", "map", "review", "measure")


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_needs_no_scrolling_sideways(browser: Any, server: Server, name: str) -> None:
    gallery = server.make()
    server.teach(gallery, "a rather long name of a thing, as shops have them, 500 ml", *pictures_of("axe"))
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with looking(browser, server, **phone) as page:
        visit(page, name, gallery)
        if name == "try":
            show(page, KITCHEN)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("visualViewport.scale") == 1


@pytest.mark.parametrize("name", PAGES)
def test_every_control_has_a_name(page: Any, server: Server, fruit: str, name: str) -> None:
    """As Chromium's own accessibility tree has it, which is what a screen reader says."""
    visit(page, name, fruit)
    if name == "try":
        show(page, KITCHEN)
        page.locator(".stage .box").first.click()
    if name == "gallery":
        expect(page.locator("#grid li")).to_have_count(3)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in tree if not node["ignored"] and node["role"]["value"] in CONTROLS]
    assert len(controls) > 8
    assert [node for node in controls if not node.get("name", {}).get("value", "").strip()] == []
    headings = [node for node in tree if not node["ignored"] and node["role"]["value"] == "heading"]
    assert headings


CONTROLS = {
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "slider",
    "checkbox",
    "radio",
    "option",
    "application",
}


def test_it_speaks_chinese(browser: Any, server: Server, fruit: str) -> None:
    with looking(browser, server, locale="zh-CN") as page:
        visit(page, "try", fruit)
        assert page.evaluate("document.documentElement.lang") == "zh"
        expect(page.get_by_role("heading", name="把照片拖到这里")).to_be_visible()
        page.get_by_role("link", name="English").click()
        expect(page.get_by_role("heading", name="Drop a photo here")).to_be_visible()
        visit(page, "gallery", fruit)  # it is remembered
        expect(page.get_by_role("button", name="Doubtful entries")).to_be_visible()


def test_a_token_is_asked_for_once(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path, token="open sesame") as guarded:
        gallery = guarded.make()
        guarded.teach(gallery, "axe", *pictures_of("axe"))
        context = browser.new_context(base_url=guarded.url)
        page = context.new_page()
        page.goto(f"/studio/gallery?g={quote(gallery)}")
        page.get_by_role("textbox", name="Token").fill("open sesame")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#grid .name")).to_have_text(["axe"])
        page.wait_for_function("() => document.querySelector('#grid img').naturalWidth")  # pictures bring it, too
        context.close()


# --- without a browser ------------------------------------------------------------------------------------------------

STUDIO = Path(routes.__file__).parent


def test_both_languages_say_the_same_things() -> None:
    english, chinese = routes.LANGUAGES["en"], routes.LANGUAGES["zh"]
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", chinese[key])), key


def test_every_text_of_the_pages_is_in_the_dictionary() -> None:
    sources = [*STUDIO.glob("static/*.js"), *STUDIO.glob("templates/*.html")]
    asked = {key for path in sources for key in re.findall(r"\bt\([\"']([\w.]+)[\"']", path.read_text("utf-8"))}
    assert asked - set(routes.LANGUAGES["en"]) == {"page."}  # + the page's name
    assert {f"page.{name}" for name in PAGES} <= set(routes.LANGUAGES["en"])


@pytest.mark.parametrize(
    ("liked", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("de,en;q=0.5,zh;q=0.3", "en"),
        ("en;q=0.2, zh;q=0.7", "zh"),
        ("de, fr;q=x", "en"),
        ("", "en"),
    ],
)
def test_the_browser_says_which_language(liked: str, language: str) -> None:
    client = TestClient(FastAPI(routes=routes.router.routes))
    page = client.get("/studio/try", headers={"Accept-Language": liked})
    assert f'<html lang="{language}"' in page.text


def test_pages_allow_no_script_but_their_own_and_only_files_that_are_theirs() -> None:
    client = TestClient(FastAPI(routes=routes.router.routes), root_path="/shop")
    for name in PAGES:
        page = client.get(f"/studio/{name}")
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert (
            re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=|javascript:|https?://(?!www\.w3\.org)", page.text)
            == []
        )
        for link in re.findall(r'(?:src|href)="([^"#?]+)"', page.text):
            assert link.startswith("/shop/studio/")
            assert client.get(link.removeprefix("/shop")).status_code == 200, link
    for outside in ("../routes.py", "%2e%2e/routes.py", "words", "", "/etc/passwd"):
        assert client.get(f"/studio/static/{outside}").status_code == 404
    assert client.get("/studio/nothing").status_code == 404
