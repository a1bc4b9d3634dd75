"""Map, Review and Measure in a real browser, and what holds for every page of the studio."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pytest

from shitu.serve.studio import routes
from tests.studio.looking import KITCHEN, Server, expect, looking, pictures_of, show, studio, visit


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
    expect(page.locator(".figure").first).to_contain_text("Named rightly")
    report = page.frame_locator("#page")
    expect(report.get_by_role("heading", name=re.compile("Evaluation of"))).to_be_visible()
    page.get_by_role("button", name="Find the best threshold").click()
    expect(page.locator(".figure").first).to_contain_text("shitu serve --score")
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
    with studio(tmp_path, token="open-sesame") as guarded:
        gallery = guarded.make()
        guarded.teach(gallery, "axe", *pictures_of("axe"))
        context = browser.new_context(base_url=guarded.url)
        page = context.new_page()
        page.goto(f"/studio/gallery?g={quote(gallery)}")
        page.get_by_role("textbox", name="Token").fill("open-sesame")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#grid .name")).to_have_text(["axe"])
        page.wait_for_function("() => document.querySelector('#grid img').naturalWidth")  # pictures bring it, too
        context.close()


# --- without a browser ------------------------------------------------------------------------------------------------

STUDIO = Path(routes.__file__).parent


def test_ids_of_databases_are_not_rounded(page: Any, server: Server) -> None:
    """Milvus's have 63 bits."""
    page.goto("/studio/try")
    told = '{"ids": [642481225207185199, 7], "score": 0.5, "big": 1e300}'
    exact = page.evaluate("async (told) => (await import('/studio/static/api.js')).parsed(told)", told)
    assert exact == {"ids": ["642481225207185199", 7], "score": 0.5, "big": 1e300}


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
def test_the_browser_says_which_language(server: Server, liked: str, language: str) -> None:
    page = server.api.get(f"{server.url}/studio/try", headers={"Accept-Language": liked})
    assert f'<html lang="{language}"' in page.text


def test_pages_allow_no_script_but_their_own_and_only_files_that_are_theirs(server: Server) -> None:
    for name in PAGES:
        page = server.api.get(f"{server.url}/studio/{name}")
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert (
            re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=|javascript:|https?://(?!www\.w3\.org)", page.text)
            == []
        )
        for link in re.findall(r'(?:src|href)="([^"#?]+)"', page.text):
            assert link.startswith("../studio/")  # relative: a proxy may put it below a path
            assert server.api.get(urljoin(f"{server.url}/studio/try", link)).status_code == 200, link
    for outside in ("../routes.py", "%2e%2e/routes.py", "words", "", "/etc/passwd"):
        assert server.api.get(f"{server.url}/studio/static/{outside}").status_code == 404
    assert server.api.get(f"{server.url}/studio/nothing").status_code == 404


@pytest.mark.parametrize("begin", ["/", "/studio", "/studio/"])
def test_the_address_of_the_server_leads_to_the_first_page(server: Server, begin: str) -> None:
    answer = server.api.get(f"{server.url}{begin}")
    assert urljoin(f"http://shop{begin}", answer.headers["location"]) == "http://shop/studio/try"
