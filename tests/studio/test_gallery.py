"""The page Gallery in a real browser: labels, entries, galleries, what is doubtful, 5,000 entries."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from shutil import copy, make_archive
from typing import Any

import numpy as np
import pytest

from shitu.gallery import Item
from shitu.gallery.write.writer import FolderWriter
from tests.studio.looking import Server, expect, pictures_of, visit


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
    drop(page, pictures_of("cheese_wedge"))
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
    expect(page.locator("#grid li")).to_have_count(4)
    page.wait_for_function(  # a picture that is asked for while its entry is undone is not found
        "() => [...document.querySelectorAll('#grid img')].every((one) => one.complete)"
    )
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


def test_a_label_shows_what_is_doubtful_in_it(page: Any, server: Server, doubtful: str) -> None:
    visit(page, "gallery", doubtful)
    page.get_by_role("button", name="Doubtful entries").click()
    expect(page.locator(".doubts li").first).to_be_visible()
    visit(page, "gallery", doubtful, label="tangerine")
    expect(page.locator("#items .doubt")).not_to_have_count(0)
    rows = page.locator("#label-doubts li")
    rows.filter(has_text="like a picture of banana").first.get_by_role("button", name="Delete").click()
    expect(page.locator("#items li")).to_have_count(3)
    assert server.labels(doubtful) == {"avocado": 3, "banana": 2, "tangerine": 3}


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


# --- in and out -------------------------------------------------------------------------------------------------------


def test_folders_and_archives_come_in_and_the_gallery_goes_out(page: Any, server: Server, tmp_path: Path) -> None:
    gallery = server.make()
    for name in ("banana", "axe"):
        (tmp_path / "things" / name).mkdir(parents=True)
        for picture in pictures_of(name):
            copy(picture, tmp_path / "things" / name / f"{picture.parent.name}{picture.suffix}")
    visit(page, "gallery", gallery)
    page.locator("#folder").set_input_files(tmp_path / "things")
    expect(page.locator(".toast").last).to_contain_text("entries imported")
    assert set(server.labels(gallery)) == {"axe", "banana"}
    page.locator(".toast").last.get_by_role("button", name="Undo").click()
    expect(page.locator("#empty")).to_be_visible()
    packed = make_archive(str(tmp_path / "packed"), "zip", tmp_path, "things")
    page.locator("#archive").set_input_files(packed)
    expect(page.locator("#grid .name")).to_have_text(["axe", "banana"])
    page.get_by_role("button", name="More").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the gallery").click()
    assert download.value.suggested_filename == f"{gallery}.zip"
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Check the gallery").click()
    expect(page.locator(".toast").last).to_contain_text("The gallery is sound")


def test_a_label_is_only_ever_text(page: Any, server: Server) -> None:
    gallery, label = server.make(), "<img src=x onerror=alert(1)>&amp;\"'{name}"
    server.teach(gallery, label, *pictures_of("axe"), box="[0,0,9999,9999]")
    visit(page, "gallery", gallery)
    expect(page.locator("#grid .name")).to_have_text(label)
    page.locator("#grid a").click()
    expect(page.locator("#label-name")).to_have_text(label)
    expect(page.locator("#items li")).to_have_count(3)
    page.goto(f"/studio/map?g={gallery}")
    expect(page.locator("#legend .name")).to_have_text(label)
