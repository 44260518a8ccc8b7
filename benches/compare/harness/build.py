"""Builds what is measured, and what measures."""

import json
import pathlib
import shutil
import subprocess
import tempfile

from peers.base import Missing, run

# Ours, beside the server.
PROGRAMS = ["floor-quinn", "floor-tls", "floor-udp", "load"]
COMPARE = pathlib.Path(__file__).resolve().parent.parent
ROOT = COMPARE.parent.parent


class Programs:
    """Where the programs are."""

    def __init__(self, before=None):
        self.before = before  # another build of the server
        _cargo(ROOT, "--bin", "tidings")
        _cargo(COMPARE)
        # Another build in the same folder, hours later, changes nothing.
        self._copies = tempfile.TemporaryDirectory(prefix="tidings-compare-")
        self.folder = pathlib.Path(self._copies.name)
        self.tidings = self.folder / "tidings"
        shutil.copy2(_target(ROOT) / "release" / "tidings", self.tidings)
        for program in PROGRAMS:
            shutil.copy2(_target(COMPARE) / "release" / program, self.folder / program)

    def __getitem__(self, name):
        return self.folder / name


def _cargo(folder, *arguments):
    argv = ["cargo", "build", "--release", "--locked", *arguments]
    try:
        status = subprocess.run(argv, cwd=folder).returncode
    except FileNotFoundError as error:
        raise Missing("cargo is missing: install Rust (rustup.rs)") from error
    if status:
        raise Missing(f"{' '.join(argv)} failed in {folder}: see above")


def _target(folder):
    """Where cargo builds, which the environment may say."""
    text = run(["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"], "ask cargo for its folder", cwd=folder)
    return pathlib.Path(json.loads(text)["target_directory"])
