"""Clients that are generated from the server's OpenAPI document, in Python and in TypeScript."""

import importlib
import json
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

TYPESCRIPT = Path(__file__).parent / "typescript"
GENERATED = TYPESCRIPT / "generated"
TIMEOUT = 120


def routes(document):
    """Every method and path of the document."""
    return {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}


def execute(command, folder):
    """The standard output of a command, which must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, f"{command} failed with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def python_client(document, folder):
    """Generates the Python package `tidings_api` in `folder`, and imports all of it."""
    (folder / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"package_name_override": "tidings_api", "post_hooks": []}), encoding="utf-8")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--config", "config.json"]
    execute([*command, "--meta", "none", "--output-path", "tidings_api", "--fail-on-warning"], folder)
    sys.path.insert(0, str(folder))
    try:
        package = importlib.import_module("tidings_api")
        for module in pkgutil.walk_packages(package.__path__, "tidings_api."):
            importlib.import_module(module.name)
    finally:
        sys.path.remove(str(folder))
    return package


def typescript_client(document):
    """Generates the types, checks and compiles the client; the path of its main file."""
    lock = TYPESCRIPT / "package-lock.json"
    installed = TYPESCRIPT / "node_modules" / "package-lock.json"
    if not installed.is_file() or installed.read_bytes() != lock.read_bytes():
        execute(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], TYPESCRIPT)
        shutil.copyfile(lock, installed)
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir()
    (GENERATED / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
    execute(["npm", "run", "--silent", "generate"], TYPESCRIPT)
    execute(["npm", "run", "--silent", "build"], TYPESCRIPT)
    return GENERATED / "out" / "client.js"
