"""Serves the studio: five pages in two languages and their files. The pages hold no data; scripts ask /v1 for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
PAGES = ("try", "gallery", "map", "review", "measure")
LANGUAGES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(HERE.glob("static/words/*.json"))}
# By content, not by the machine's registry, which may call a script text/plain; nothing else is ever served.
TYPES = {".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml"}
FILES = {path.relative_to(HERE / "static").as_posix(): path for path in HERE.glob("static/**/*") if path.is_file()}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "media-src 'self' blob:; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked for anew each time, answered by 304: never the script of an older version
}
_templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined)
router = APIRouter(include_in_schema=False)


def language_of(request: Request) -> str:
    """The one chosen by ?lang=, else by the cookie of an earlier choice, else what the browser likes best."""
    for chosen in (request.query_params.get("lang", ""), request.cookies.get("shitu_lang", "")):
        if chosen in LANGUAGES:
            return chosen
    liked = []
    for place, part in enumerate(request.headers.get("accept-language", "").split(",")):
        found = re.fullmatch(r"\s*([A-Za-z]+)[\w-]*\s*(?:;\s*q\s*=\s*([01](?:\.\d*)?))?\s*", part)
        if found and found[1].lower() in LANGUAGES:
            liked.append((-float(found[2] or 1), place, found[1].lower()))
    return min(liked)[2] if liked else "en"


@router.get("/")
@router.get("/studio")
@router.get("/studio/")
def start(request: Request) -> RedirectResponse:
    """To the first page, by a relative address, so that a proxy may put all of it below a path of its own."""
    return RedirectResponse("try" if request.url.path.endswith("/studio/") else "studio/try", 307, HEADERS)


@router.get("/studio/{page}")
def page(request: Request, page: str) -> Response:
    if page not in PAGES:
        raise HTTPException(404, f"no page {page!r} in the studio; there are {', '.join(PAGES)}")
    language = language_of(request)
    words = LANGUAGES[language]

    def t(key: str) -> str:
        return str(words[key])

    text = _templates.get_template(f"{page}.html").render(
        t=t, page=page, pages=PAGES, root="..", language=language, languages=LANGUAGES
    )
    answer = Response(text, media_type="text/html", headers=HEADERS)
    if request.query_params.get("lang") == language:
        answer.set_cookie("shitu_lang", language, max_age=365 * 86400, path="", samesite="lax")
    return answer


@router.get("/studio/static/{name:path}")
def static(name: str) -> FileResponse:
    """One of the files that were there at start; a name is looked up among them and never made a path."""
    path = FILES.get(name)
    if path is None or path.suffix not in TYPES:
        raise HTTPException(404, f"no file {name!r} in the studio")
    return FileResponse(path, media_type=TYPES[path.suffix], headers=HEADERS)
