"""What the reference tests compare with: llama.cpp's own sources, torch and transformers.

Environment:
    MTPCLI_LLAMA_SRC, MTPCLI_LLAMA_SERVER: see `tests.reference.upstream`.
    MTPCLI_REFERENCE_PYTHON: an interpreter with torch and transformers; without it, this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import snapshots
from tests.reference import upstream

MAKE_FAMILY = Path(__file__).with_name("make_family.py")


@pytest.fixture(scope="session")
def llama_source() -> Path:
    """The folder `vendor/llama.cpp` of the binding we run with."""
    try:
        return upstream.llama_source()
    except upstream.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def reference_python() -> str:
    """An interpreter that has torch and transformers."""
    python = os.environ.get("MTPCLI_REFERENCE_PYTHON", sys.executable)
    check = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
    done = subprocess.run([python, "-c", check, "torch", "transformers"], check=False)
    if done.returncode != 0:
        pytest.skip(
            "needs torch and transformers: pip install -e '.[train]', or name an interpreter"
            " that has them in MTPCLI_REFERENCE_PYTHON"
        )
    return python


@pytest.fixture(scope="session")
def llama_server() -> Path:
    """llama.cpp's server, built once into the user's cache (minutes)."""
    try:
        return upstream.llama_server()
    except upstream.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def family(reference_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random snapshots of all members of the family."""
    root = tmp_path_factory.mktemp("family")
    subprocess.run([reference_python, str(MAKE_FAMILY), str(root)], check=True)
    for folder in root.iterdir():
        suppressed = {"suppress_tokens": [7, 9]} if folder.name == "12B" else {}
        snapshots.write_tokenizer(folder, **suppressed)
    return root
