"""Makes a store, killed by SIGKILL at chosen files, and resumes it each time.

Run as `python kill_everywhere.py FOLDER KILL ...`. A KILL is `before:FILE` or `after:FILE`, the moments
around the one at which the file gets its name, or a number: that moment of the run, counted from 0. Every run
is a forked child, so that nothing of a killed run lives on in the process that resumes it. Prints a line per
kill: how many blocks were flagged.
"""

import os
import signal
import sys
from itertools import count
from pathlib import Path

from made_blocks import SETTINGS, constants, make_layout, observed, run

from bayes_ir.analysis.posterior import PosteriorLayout
from bayes_ir.analysis.zarr_format import open_store, read_flags, read_record
from bayes_ir.analysis.zarr_reading import open_posterior
from bayes_ir.analysis.zarr_store import ZarrSink

layout = make_layout()


def make_store(path):
    run(ZarrSink(path, layout, observed(layout), constants(layout), SETTINGS))


def in_a_child(work, *args):
    child = os.fork()
    if child == 0:
        try:
            work(*args)
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    return os.waitpid(child, 0)[1]


def killed_run(path, kill):
    rename, moments = Path.replace, count()

    def at(moment, target):
        if kill in (str(next(moments)), f"{moment}:{Path(target).relative_to(path)}"):
            os.kill(os.getpid(), signal.SIGKILL)

    def replace(self, target):
        # A new store is made in a nest beside its place, NEST/store.
        known = (
            str(target).split("/store/")[-1] if "/store/" in str(target) else Path(target).relative_to(path)
        )
        at("before", path / known)
        rename(self, target)
        at("after", path / known)

    Path.replace = replace
    make_store(path)


def check_and_resume(path):
    """What is flagged is whole and is what the block should be; then the run goes on."""
    if path.exists():
        flags = read_flags(open_store(path), PosteriorLayout(**read_record(path)["layout"]))
        if flags[:, 0].any():
            tree = open_posterior(path, partial=True)
            assert bool(tree["posterior"]["x"].notnull().all())
            assert bool((tree["sample_stats"]["nfe"] == 32).all())
        print(int(flags.sum()), flush=True)
    else:
        print("none", flush=True)
    make_store(path)


if __name__ == "__main__":
    os.fsync = lambda handle: None  # what is written outlives a killed process, flushed or not
    folder = Path(sys.argv[1])
    assert in_a_child(make_store, folder / "whole") == 0
    for number, kill in enumerate(sys.argv[2:]):
        path = folder / f"killed-{number}"
        status = in_a_child(killed_run, path, kill)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (kill, status)
        assert in_a_child(check_and_resume, path) == 0, kill
