"""What the reference tests compare with: llama.cpp's own sources, torch and transformers.

Environment:
    MTPCLI_LLAMA_SRC: an unpacked source distribution of llama-cpp-python; without it the one of
        the installed version is downloaded once, into the user's cache.
    MTPCLI_REFERENCE_PYTHON: an interpreter with torch and transformers; without it, this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import platformdirs
import pytest

from tests import snapshots

MAKE_FAMILY = Path(__file__).with_name("make_family.py")


@pytest.fixture(scope="session")
def llama_source() -> Path:
    """The folder `vendor/llama.cpp` of the binding we run with."""
    given = os.environ.get("MTPCLI_LLAMA_SRC")
    root = Path(given) if given else _downloaded(version("llama_cpp_python"))
    source = root / "vendor" / "llama.cpp"
    assert (source / "convert_hf_to_gguf.py").is_file(), f"{root} holds no llama-cpp-python sources"
    return source


def _downloaded(release: str) -> Path:
    """The sources of one release, downloaded and unpacked unless they already were."""
    cache = platformdirs.user_cache_path("mtpcli", appauthor=False) / "reference"
    root = cache / f"llama_cpp_python-{release}"
    if not root.is_dir():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        wanted = ["--no-binary", ":all:", "--dest", str(cache), f"llama-cpp-python=={release}"]
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"llama.cpp's sources cannot be downloaded: {done.stderr[-300:]}")
        with tarfile.open(root.with_name(f"{root.name}.tar.gz")) as archive:
            archive.extractall(cache, filter="data")
    return root


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
def llama_server(llama_source: Path) -> Path:
    """llama.cpp's server, built once into the user's cache (minutes).

    MTPCLI_LLAMA_SERVER names one that is already built from the same sources.
    """
    given = os.environ.get("MTPCLI_LLAMA_SERVER")
    if given:
        return Path(given)
    if not shutil.which("cmake"):
        pytest.skip("building llama-server needs cmake")
    build = platformdirs.user_cache_path("mtpcli", appauthor=False) / "reference" / "server-build"
    server = build / "bin" / "llama-server"
    if not server.is_file():
        switches = ["BUILD_SHARED_LIBS", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES"]
        switches += ["LLAMA_BUILD_UI", "LLAMA_USE_PREBUILT_UI", "LLAMA_OPENSSL"]
        options = ["-DCMAKE_BUILD_TYPE=Release", *(f"-D{switch}=OFF" for switch in switches)]
        configure = ["cmake", "-S", str(llama_source), "-B", str(build), *options]
        compile_it = ["cmake", "--build", str(build), "--target", "llama-server", "--parallel"]
        for command in (configure, compile_it):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return server


@pytest.fixture(scope="session")
def family(reference_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random snapshots of all members of the family."""
    root = tmp_path_factory.mktemp("family")
    subprocess.run([reference_python, str(MAKE_FAMILY), str(root)], check=True)
    for folder in root.iterdir():
        suppressed = {"suppress_tokens": [7, 9]} if folder.name == "12B" else {}
        snapshots.write_tokenizer(folder, **suppressed)
    return root
