"""`shitu init` and `shitu completion`: what makes later commands shorter to type."""

from __future__ import annotations

from pathlib import Path

import click

from shitu.cli import out
from shitu.cli.options import HERE, choice, example
from shitu.errors import ShituError, UsageError

TEMPLATE = """\
# yaml-language-server: $schema={schema}
# Read by every shitu command in this folder that is given no -c. Keys that are not here are those of the bundled config
# general (`shitu config show` prints all, and where each comes from). Options on the command line win over this file.
base: general

IndexProcess:
  index_dir: {gallery}
  # score_thres: 0.4             # how near the best match must be for a name; `shitu calibrate` finds yours
  # return_k: 5                  # matches told per object
  # crop: both                   # of a gallery picture: none: whole; largest: its largest object; both; all objects
  # vote_k: 10                   # nearest pictures that vote on the name, with many pictures per thing

Global:
  output_dir: ./output           # annotated pictures
  # threshold: 0.35              # how sure the detector must be of an object
  # max_det_results: 15          # objects per photo at most
  # rec_inference_model_dir: my_model    # a model of your own: its folder, or a name of `shitu models list`
  # use_gpu: True
"""


@click.command("init", epilog=example("init -g my_gallery"))
@click.option("-g", "--gallery", metavar="FOLDER", help="The gallery.  [default: the one that lies here, else gallery]")
def init(gallery: str | None) -> None:
    """Write a commented shitu.yaml for this folder; commands without -c read it.

    Nothing is asked, and a shitu.yaml that is there stays.
    """
    import json

    from shitu.files import replace_file
    from shitu.resources import bundled

    path = Path(HERE)
    if path.exists() or path.is_symlink():
        raise UsageError(f"{HERE} is there already; edit it, or delete it first")
    here = sorted(each.parent.name for each in Path().glob("*/gallery.json"))
    schema = bundled("configs") / "schema" / "inference.json"
    name = gallery or next(iter(here), "gallery")
    text = TEMPLATE.format(schema=schema, gallery=json.dumps(name, ensure_ascii=False))
    try:
        replace_file(path, lambda file: file.write(text.encode("utf-8")))
    except OSError as error:
        raise ShituError(f"{HERE}: {error.strerror}; check space and permissions") from error
    command = "predict" if (Path(name) / "gallery.json").exists() else "build-gallery"
    out.log.info("Wrote %s; next: shitu %s PHOTOS", HERE, command)


@click.command("completion", epilog=example("completion --shell bash"))
@choice("--shell", ("bash", "zsh", "fish"), "Of which shell.")
def completion(shell: str) -> None:
    """Print what makes a shell complete commands and options: in ~/.bashrc, source what this prints.

    bash and zsh: source <(shitu completion), in zsh with --shell zsh. fish: shitu completion --shell fish | source
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root()
    # the text alone: source() would start bash to ask for its version
    maker = kind(root.command, {}, "shitu", "_SHITU_COMPLETE")
    out.line((maker.source_template % maker.source_vars()).rstrip("\n"))
