"""`shitu check` and `shitu demo`: whether it works here, and the whole way on the bundled gallery and photos."""

from __future__ import annotations

from pathlib import Path

import click

from shitu.cli import out
from shitu.cli.build_gallery import run_builder
from shitu.cli.options import example, read_config
from shitu.cli.predict import run_predict


@click.command("check", epilog=example("check"))
def check() -> None:
    """Versions, engine, CPU features, and a self-test of the bundled models. Status 1 if something is wrong."""
    from shitu.self_test import describe_machine, self_test

    for name, value in describe_machine():
        out.line(f"{name:26}{value}")
    problems = 0
    for line, good in self_test():
        out.line(f"{'ok' if good else 'FAILED':8}{line}")
        problems += not good
    if problems:
        raise SystemExit(1)


@click.command("demo", epilog=example("demo --output output/demo"))
@click.option("--output", default="output/demo", metavar="FOLDER", help="Where the annotated pictures go.")
def demo(output: str) -> None:
    """Build the demo gallery, recognise the demo photos, draw the results."""
    from shitu.build.builder import GalleryBuilder
    from shitu.errors import UsageError
    from shitu.resources import bundled

    source = bundled("demo")
    if source.is_relative_to(Path.cwd()):
        source = source.relative_to(Path.cwd())  # shorter names in the table
    if not (source / "gallery.txt").is_file():
        raise UsageError(f"the demo's files are not at {source}; install shitu anew from a whole checkout")
    settings = {
        "Global.infer_imgs": source / "photos",
        "Global.output_dir": output,
        "IndexProcess.image_root": source,
        "IndexProcess.data_file": source / "gallery.txt",
        "IndexProcess.index_dir": f"{output}_index",
        # The config's 0.4 suits photos; drawings of unknown things look more like the known ones: docs/models.md
        "IndexProcess.score_thres": 0.55,
    }
    config = read_config(None, tuple(f"{key}={value}" for key, value in settings.items()))
    run_builder(GalleryBuilder(config))
    run_predict(config, (), style="table", pictures=True)
