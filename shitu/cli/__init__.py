"""The command line: arguments -> one call -> printed records and an exit status.

Results go to stdout, messages and progress to stderr. Exit status: 0 done; 1 something failed, the rest was done;
2 wrong usage or configuration. The commands import what is heavy inside their functions, so that --help is instant.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click

from shitu import __version__
from shitu.cli import out
from shitu.cli.benchmark import benchmark
from shitu.cli.build_gallery import append, build_gallery
from shitu.cli.calibrate import calibrate_config
from shitu.cli.config import config
from shitu.cli.dataset import dataset
from shitu.cli.demo import check, demo
from shitu.cli.evaluate import evaluate_gallery
from shitu.cli.finetune import finetune
from shitu.cli.gallery import gallery
from shitu.cli.gallery_copy import copy
from shitu.cli.gallery_tools import dedup, map_gallery, tune, undo
from shitu.cli.init import completion, init
from shitu.cli.models import models
from shitu.cli.options import InOrder, example
from shitu.cli.predict import predict, predict_det, predict_rec
from shitu.cli.quantize import quantize
from shitu.cli.serve import serve
from shitu.cli.training import eval_det, export, export_det, train, train_det
from shitu.cli.training import evaluate as evaluate_extractor
from shitu.errors import ShituError, StoppedError
from shitu.resources import at_hand


class _Group(InOrder):
    """The one place where errors become a message and an exit status."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        # so that examples run anywhere; `demo` alone is a command
        return super().parse_args(context, [at_hand(word) if "/" in word else word for word in args])

    def main(self, *arguments: Any, **named: Any) -> Any:
        out.open_streams()
        try:
            return super().main(*arguments, **named)
        except OSError as error:  # of a help text or the like, written before a command was invoked
            if error.errno != errno.ENOSPC or error.filename:
                raise
            out.message(f"Error: {error.strerror}: standard output")
            sys.exit(1)

    def invoke(self, context: click.Context) -> Any:
        interrupts = out.Interrupts(context)
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            interrupts.end()
        except ShituError as error:
            if interrupts.came and not isinstance(error, StoppedError):
                interrupts.end()
            out.message(f"Error: {error}", "red")
            context.exit(error.exit_status)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ENOSPC):
                raise
            if error.errno == errno.ENOSPC:
                out.message(f"Error: {error.strerror}: {error.filename or 'standard output'}")
            # With EPIPE (`shitu predict ... | head`) nobody listens any more; Python would complain on closing stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(1)
        except Exception:
            if interrupts.came:  # in the middle of an import, of which libraries make errors of their own
                interrupts.end()
            raise


@click.group(
    cls=_Group,
    epilog=example("build-gallery demo/gallery/google -g my_gallery", "predict -g my_gallery demo/photos/beach.jpg"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="shitu")
@click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")
@click.pass_context
def main(context: click.Context, quiet: bool) -> None:
    """Find the objects in photos and name them from a gallery: PP-ShiTu on today's Paddle."""
    out.set_up(context, quiet)


RECOGNITION = (init, build_gallery, predict, predict_det, predict_rec, evaluate_gallery, calibrate_config, gallery)
SERVICE = (serve,)
MODELS = (models, quantize, benchmark)
TRAINING = (dataset, finetune, train, evaluate_extractor, export, train_det, eval_det, export_det)
for command in (append, undo, dedup, map_gallery, copy, tune):
    gallery.add_command(command)
for command in (*RECOGNITION, *SERVICE, *MODELS, *TRAINING, check, demo, config, completion):
    main.add_command(command)
