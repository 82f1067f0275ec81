"""llama.cpp's own sources and server, fetched and built once into the user's cache.

Environment:
    MTPCLI_LLAMA_SRC: an unpacked source distribution of llama-cpp-python; without it the one of
        the installed version is downloaded.
    MTPCLI_LLAMA_SERVER: a llama-server that is already built from the same sources.
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


class Unavailable(Exception):
    """Something that is compared with cannot be had here."""


def llama_source() -> Path:
    """The folder `vendor/llama.cpp` of the binding we run with."""
    given = os.environ.get("MTPCLI_LLAMA_SRC")
    root = Path(given) if given else _downloaded(version("llama_cpp_python"))
    source = root / "vendor" / "llama.cpp"
    assert (source / "convert_hf_to_gguf.py").is_file(), f"{root} holds no llama-cpp-python sources"
    return source


def _downloaded(release: str) -> Path:
    """The sources of one release, downloaded and unpacked unless they already were."""
    root = cache() / f"llama_cpp_python-{release}"
    if not root.is_dir():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        wanted = ["--no-binary", ":all:", "--dest", str(cache()), f"llama-cpp-python=={release}"]
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unavailable(f"llama.cpp's sources cannot be downloaded: {done.stderr[-300:]}")
        with tarfile.open(root.with_name(f"{root.name}.tar.gz")) as archive:
            archive.extractall(cache(), filter="data")
    return root


def llama_server() -> Path:
    """llama.cpp's server (minutes, the first time)."""
    given = os.environ.get("MTPCLI_LLAMA_SERVER")
    if given:
        return Path(given)
    build = cache() / "server-build"
    server = build / "bin" / "llama-server"
    if not server.is_file():
        if not shutil.which("cmake"):
            raise Unavailable("building llama-server needs cmake")
        switches = ["BUILD_SHARED_LIBS", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES"]
        switches += ["LLAMA_BUILD_UI", "LLAMA_USE_PREBUILT_UI", "LLAMA_OPENSSL"]
        options = ["-DCMAKE_BUILD_TYPE=Release", *(f"-D{switch}=OFF" for switch in switches)]
        configure = ["cmake", "-S", str(llama_source()), "-B", str(build), *options]
        compile_it = ["cmake", "--build", str(build), "--target", "llama-server", "--parallel"]
        for command in (configure, compile_it):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return server


def cache() -> Path:
    """Where it is kept: the user's cache, though tests have another one."""
    given = os.environ.get("MTPCLI_REFERENCE_CACHE")
    folder = platformdirs.user_cache_path("mtpcli", appauthor=False)
    return Path(given) if given else folder / "reference"
