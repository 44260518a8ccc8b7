"""Pinned installations into the cache, by the ordinary clients of the package registries.

Each leaves a stamp with what was pinned beside it, written last: an installation that was broken off, or is of another
version, is made again.
"""

import shutil
import sys

from .base import Missing, run


def is_current(folder, pins):
    """Whether exactly these pins were installed to their end."""
    stamp = folder / "installed"
    return stamp.is_file() and stamp.read_text() == "\n".join(pins)


def python(folder, pins):
    """A virtual environment with these packages of PyPI."""
    with _fresh(folder, pins):
        run([sys.executable, "-m", "venv", folder], "make a virtual environment (Debian: python3-venv)")
        run([folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *pins], f"install {' '.join(pins)}")


def node(folder, pins):
    """A folder with these packages of npm. Their install scripts are not run: none of them needs one."""
    with _fresh(folder, pins):
        (folder / "package.json").write_text("{}")
        run(["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact", *pins], f"install {' '.join(pins)}")


def debian(folder, pins):
    """A folder with the contents of these packages of Debian, which are neither configured nor started."""
    if not shutil.which("apt-get"):
        raise Missing("apt-get is not there: run this on Debian, or leave the peer out with --peers")
    with _fresh(folder, pins):
        try:
            run(["apt-get", "download", *pins], f"download {' '.join(pins)}", cwd=folder)
        except Missing as error:
            raise Missing(f"{error} (does `apt-get update` help?)") from error
        for package in folder.glob("*.deb"):
            run(["dpkg-deb", "--extract", package, folder], f"unpack {package.name}")
            package.unlink()


def cargo(folder, pins):
    """A program of crates.io, built for many minutes: the pins are what `cargo install` is told, `--locked` among it."""
    with _fresh(folder, pins):
        run(["cargo", "install", *pins, "--root", folder], f"build {pins[0]}")


class _fresh:
    """An empty folder that gets its stamp when the block ends well, and is taken away when it does not."""

    def __init__(self, folder, pins):
        self.folder, self.pins = folder, pins

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def __exit__(self, kind, _error, _trace):
        if kind:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            (self.folder / "installed").write_text("\n".join(self.pins))
