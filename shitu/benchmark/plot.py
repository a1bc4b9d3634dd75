"""A Benchmark as one picture: for each variant a bar of its stages, in milliseconds per image. Plain SVG by jinja2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment

from shitu.benchmark.record import Benchmark, Measured
from shitu.benchmark.stages import STAGES
from shitu.files import replace_file

# Colour-blind safe: the detector blue, the recogniser orange, what comes before and after in greys and green.
COLOURS = ("#8a8f98", "#9ecae1", "#2171b5", "#6baed6", "#d9d9d9", "#fdae6b", "#d95f0e", "#31a354", "#c2a5cf", "#b0b4ba",
           "#e8e8e6")  # fmt: skip
LEFT, WIDE, ROW = 232, 560, 30
TEMPLATE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" role="img"
 font-family="system-ui, sans-serif" font-size="12" aria-label="{{ title }}">
<rect width="100%" height="100%" fill="#fff"/>
<text x="12" y="22" font-size="15" font-weight="600">{{ title }}</text>
<text x="12" y="40" fill="#5c6066">{{ below }}</text>
{% for name, colour, x, y in legend -%}
<rect x="{{ x }}" y="{{ y }}" width="10" height="10" fill="{{ colour }}"/>
<text x="{{ x + 14 }}" y="{{ y + 9 }}">{{ name }}</text>
{% endfor -%}
{% for row in rows -%}
<text x="{{ left - 8 }}" y="{{ row.y + 14 }}" text-anchor="end">{{ row.name }}</text>
{% for part in row.parts -%}
<rect x="{{ part.x }}" y="{{ row.y }}" width="{{ part.width }}" height="20" fill="{{ part.colour }}">
<title>{{ part.title }}</title></rect>
{% endfor -%}
<text x="{{ row.end + 6 }}" y="{{ row.y + 14 }}">{{ row.text }}</text>
{% endfor -%}
</svg>
"""


def draw_plot(found: Benchmark) -> str:
    """The SVG's text. A bar is as long as the mean over all images, so that the stages add up."""
    rows = [_row(each, number) for number, each in enumerate(found.variants)]
    longest = max(sum(milliseconds for _, milliseconds in row["values"]) for row in rows)
    scale = WIDE / longest if longest else 0.0
    for row in rows:
        row["parts"], x = [], float(LEFT)
        for stage, milliseconds in row["values"]:
            width = round(scale * milliseconds, 2)
            title = f"{row['name']}: {stage} {milliseconds:.2f} ms"
            colour = COLOURS[STAGES.index(stage)]
            row["parts"].append({"x": round(x, 2), "width": width, "colour": colour, "title": title})
            x += width
        row["end"] = round(x, 2)
    places = [(LEFT + 112 * (number % 6), 52 + 18 * (number // 6)) for number in range(len(STAGES))]
    legend = [(name, colour, *place) for name, colour, place in zip(STAGES, COLOURS, places, strict=True)]
    facts = f"{found.machine.get('processor', '')}, {found.date}, {found.images} images, {found.rounds} rounds; bars: "
    return Environment(autoescape=True).from_string(TEMPLATE).render(
        title="Milliseconds per image, by stage", below=facts + "mean of all; numbers: median, ratio to the first",
        width=LEFT + WIDE + 190, height=104 + ROW * len(rows), left=LEFT, rows=rows, legend=legend,
    )  # fmt: skip


def _row(each: Measured, number: int) -> dict[str, Any]:
    kept = "" if each.answers.kept else ", other answers"
    return {
        "name": f"{each.name}, {each.threads} thr., batch {each.batch}",
        "y": 96 + ROW * number,
        "values": [(stage, each.mean * each.stages[stage].share) for stage in STAGES],
        "text": f"{each.whole.median:.1f} ms, {each.speed:.2f} x{kept}",
    }


def write_plot(found: Benchmark, path: Path) -> None:
    """Whole, or not at all."""
    replace_file(path, lambda file: file.write(draw_plot(found).encode("utf-8")))
