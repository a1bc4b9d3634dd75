"""`shitu finetune`: from a folder of photos to a model, a gallery and a config of their own."""

from __future__ import annotations

import shlex
import sys
from datetime import date
from pathlib import Path

import click

from shitu.cli import out
from shitu.cli.options import Within, example, false_accept_option, override_option


@click.command("finetune", epilog=example("finetune my_photos --epochs 1 --output my_model"))
@click.option(
    "--output", type=click.Path(path_type=Path), default="finetuned", show_default=True, help="The folder to fill."
)
@click.option("--epochs", type=click.IntRange(1), help="Of training at most.  [default: by the number of photos]")
@click.option("--minutes", type=Within(0, min_open=True), help="Of training at most.  [default: 15]")
@click.option(
    "--size", type=click.IntRange(32, 1024), default=224, show_default=True, help="Side of the images, in pixels."
)
@false_accept_option
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, another split.")
@click.option("--overwrite", is_flag=True, help="Start anew over an earlier run.")
@override_option(", of configs/train/finetune.yaml")
@click.argument("photos", type=click.Path(path_type=Path))
def finetune(*, output: Path, overwrite: bool, overrides: tuple[str, ...], photos: Path, **how: object) -> None:
    """Train the bundled recogniser on from PHOTOS: a folder with one for each thing, or a list as build-gallery's.

    Some things are kept from training and choose when it ends; some photos of each measure before and after. --output
    then holds shitu.yaml, gallery, report.html and, where it is better than the bundled one, the model. Ctrl-C saves
    and stops; the same command goes on.
    """
    from shitu.finetune.run import Wanted, finetune

    wanted = Wanted(photos, output, overrides=overrides, **how)  # type: ignore[arg-type]  # click has checked them
    command = shlex.join(["shitu", *sys.argv[1:]])
    result = finetune(wanted, overwrite=overwrite, bar=out.progress, command=command, date=date.today().isoformat())
    if not result["better"]:
        out.log.warning("fine-tuning did not make it better: gallery and config are of the bundled model")
    out.record(result)
    out.log.info(f"Next: shitu predict -c {shlex.quote(result['config'])} PHOTOS")
