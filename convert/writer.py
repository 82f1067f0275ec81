"""Writing GGUF files: header first, then tensors as they are made, nothing kept in memory.

`gguf.GGUFWriter` collects the metadata, because it knows keys and types. It does not write the
file: it packs arrays element by element, which for 262144 tokens and 514906 merges takes longer
than everything else, and it leaves half a file behind when interrupted.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFValueType as Kind

from convert.errors import ConvertError, TakenError, WriteError
from convert.quantize import Bytes, encoded_bytes

ALIGNMENT = 32
MAX_WORKERS = 8
# Folders for files that are not complete, and the file in each whose lock says that it is in use.
_WORKSPACE, _HOLD = ".unfinished-gguf-", "in-use"
Piece = Callable[[], Bytes]
Progress = Callable[[int], None]
Keys = dict[str, bytes]

SCALARS = {
    Kind.UINT8: "<B",
    Kind.INT8: "<b",
    Kind.UINT16: "<H",
    Kind.INT16: "<h",
    Kind.UINT32: "<I",
    Kind.INT32: "<i",
    Kind.FLOAT32: "<f",
    Kind.UINT64: "<Q",
    Kind.INT64: "<q",
    Kind.FLOAT64: "<d",
    Kind.BOOL: "<?",
}
_KIND_OF_DTYPE = {np.dtype(fmt): kind for kind, fmt in SCALARS.items()}
_DTYPE_OF_PYTHON = {bool: np.dtype("?"), int: np.dtype("<i4"), float: np.dtype("<f4")}


@dataclass(frozen=True)
class OutTensor:
    """A tensor of the file to write.

    Attributes:
        shape: outermost dimension first; GGUF stores it the other way round.
        pieces: makes the jobs whose results, one after the other, are the tensor's bytes. Jobs
            run in threads, in any order.
    """

    name: str
    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    pieces: Callable[[], Iterable[Piece]]

    @property
    def nbytes(self) -> int:
        return encoded_bytes(int(np.prod(self.shape)), self.kind)


@contextmanager
def staged(output: Path, force: bool) -> Iterator[Path]:
    """A path to write to that becomes `output` at the end, or vanishes after any failure.

    Until then a file that stood at `output` still stands there.

    Raises:
        TakenError: `output` exists and `force` is false.
        WriteError: it cannot be written.
    """
    with staged_all([output], force) as (part,):
        yield part


@contextmanager
def staged_all(outputs: Sequence[Path], force: bool) -> Iterator[list[Path]]:
    """The same for several files in one folder, which appear together."""
    for output in outputs:
        check_free(output, force)
    with workspace(outputs[0].parent) as folder:
        parts = [folder / output.name for output in outputs]
        yield parts
        put_in_place(list(zip(parts, outputs, strict=True)), force)


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A folder within another, which is made too, for files that are not complete: gone at the end.

    So is the other, where it was made here and nothing came into it.
    One that was left behind by a process that was killed goes when the next one is made.

    Raises:
        TakenError: a file stands there.
        WriteError: the disk does not let it, or what is done with it.
    """
    if folder.exists() and not folder.is_dir():
        raise TakenError(f"{folder}: is no folder; name one for the files")
    handle = work = None
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _remove_abandoned(folder)
            work = Path(tempfile.mkdtemp(prefix=_WORKSPACE, dir=folder))
            handle = _lock(work / _HOLD)
        yield work
    except OSError as error:
        raise WriteError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
        if handle is not None:
            os.close(handle)
        for place in made:
            with suppress(OSError):  # it is not empty
                place.rmdir()


def _remove_abandoned(folder: Path) -> None:
    """Remove workspaces that nobody holds the lock of."""
    for old in folder.glob(f"{_WORKSPACE}*"):
        with suppress(OSError):
            handle = _lock(old / _HOLD, wait=False)
            if handle is not None:
                shutil.rmtree(old, ignore_errors=True)
                os.close(handle)


def put_in_place(files: Sequence[tuple[Path, Path]], force: bool) -> None:
    """Rename complete files to their outputs, in one folder: those of one process, or of another.

    Raises:
        TakenError: an output has come to exist, and `force` is false.
        OSError: the disk.
    """
    folder = files[0][1].parent
    with _locked(folder):
        for _, output in files:
            check_free(output, force)
        for part, output in files:
            part.replace(output)
        _sync_folder(folder)


def check_free(output: Path, force: bool) -> None:
    """See that a file may be written to `output`.

    Raises:
        TakenError: it exists and `force` is false, or it is a folder.
    """
    if output.is_dir():
        raise TakenError(f"{output}: is a folder; name a file")
    if output.exists() and not force:
        raise TakenError(f"{output}: exists already; use --force to replace it")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time work on a folder, where the system can lock it."""
    handle = _lock(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _lock(path: Path, wait: bool = True) -> int | None:
    """A handle that locks a folder or a file until it is closed; None where that cannot be."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(path, flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another has it, or it is on one of some network file systems
        os.close(handle)
        return None
    return handle


def _sync_folder(folder: Path) -> None:
    """Make the rename survive a power cut, where the system can (Windows cannot)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write(path: Path, keys: Keys, tensors: list[OutTensor], progress: Progress) -> None:
    """Write a GGUF file and sync it to disk.

    Args:
        keys: the metadata, see `packed_metadata`.
        progress: gets the bytes of each piece written.

    Raises:
        ConvertError: what a piece raises.
        OSError: the disk.
    """
    with path.open("wb") as file:
        file.write(_header(keys, tensors))
        _pad(file)
        blocks = _in_threads(piece for tensor in tensors for piece in tensor.pieces())
        try:
            for tensor in tensors:
                left = tensor.nbytes
                while left > 0:
                    block = next(blocks)
                    file.write(block.data)
                    left -= block.nbytes
                    progress(block.nbytes)
                _pad(file)
        finally:
            blocks.close()
        file.flush()
        os.fsync(file.fileno())


def write_empty(path: Path, keys: Keys, tensors: list[OutTensor]) -> None:
    """Write a GGUF file whose tensors are holes: as long as any, and hardly any space on disk."""
    with path.open("wb") as file:
        file.write(_header(keys, tensors))
        _pad(file)
        file.truncate(file.tell() + sum(-(-t.nbytes // ALIGNMENT) * ALIGNMENT for t in tensors))


def _in_threads(jobs: Iterator[Piece]) -> Generator[Bytes, None, None]:
    """Run jobs on all cores, a few ahead, and yield their results in order."""
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    running: deque[Future[Bytes]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for job in jobs:
            running.append(pool.submit(job))
            if len(running) > 2 * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def packed_metadata(meta: gguf.GGUFWriter) -> Keys:
    """Metadata as the file holds it: each key's type and value, in bytes.

    Raises:
        ConvertError: a value does not fit its type.
    """
    (values,) = meta.kv_data
    keys: Keys = {}
    for key, value in values.items():
        try:
            packed = _packed(value.value, value.type, value.sub_type)
        except (struct.error, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ConvertError(
                f"metadata {key}: {value.value!r:.80} is no {value.type.name.lower()} ({error})"
            ) from error
        keys[key] = struct.pack("<I", value.type) + packed
    return keys


def _header(keys: Keys, tensors: list[OutTensor]) -> bytes:
    parts = [struct.pack("<4sIQQ", b"GGUF", gguf.GGUF_VERSION, len(tensors), len(keys))]
    for key, packed in keys.items():
        parts += [_string(key), packed]
    offset = 0
    for tensor in tensors:
        dims = tuple(reversed(tensor.shape))
        parts.append(_string(tensor.name))
        parts.append(struct.pack(f"<I{len(dims)}Q", len(dims), *dims))
        parts.append(struct.pack("<IQ", tensor.kind, offset))
        offset += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    return b"".join(parts)


def _packed(value: Any, kind: Kind, item_kind: Kind | None) -> bytes:
    if kind == Kind.STRING:
        return _string(value)
    if kind != Kind.ARRAY:
        return struct.pack(SCALARS[kind], value)
    if not isinstance(value, np.ndarray):
        if isinstance(value[0], (str, bytes)):
            body = b"".join(map(_string, value))
            return struct.pack("<IQ", Kind.STRING, len(value)) + body
        dtype = np.dtype(SCALARS[item_kind]) if item_kind else _DTYPE_OF_PYTHON[type(value[0])]
        value = np.array(value, dtype)
    return struct.pack("<IQ", _KIND_OF_DTYPE[value.dtype], value.size) + value.tobytes()


def _string(text: str | bytes) -> bytes:
    raw = text.encode("utf-8") if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def _pad(file: Any) -> None:
    file.write(bytes(-file.tell() % ALIGNMENT))
