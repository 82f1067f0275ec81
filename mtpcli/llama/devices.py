"""What llama.cpp can compute on: processors and GPUs, as the installed binding knows them."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mtpcli.errors import UsageError
from mtpcli.llama import lib as llama

Kind = Literal["cpu", "gpu", "integrated gpu", "accelerator"]

_KINDS: tuple[Kind, ...] = ("cpu", "gpu", "integrated gpu", "accelerator")
_NO_DEVICE = "cpu"
_CPU = _KINDS.index("cpu")  # GGML_BACKEND_DEVICE_TYPE_CPU


@dataclass(frozen=True)
class Device:
    """One of them.

    Attributes:
        name: as `--device` takes it, `Vulkan0` for example.
        description: the maker's name for it.
        kind: what it is; an accelerator serves the CPU and takes no layers.
        backend: the part of llama.cpp that speaks to it: `CPU`, `Vulkan`, `CUDA`, `MTL`, `RPC`.
        free, total: bytes of its memory; 0 where it does not tell.
        id: the same for two backends that see the same hardware; may be empty.
        handle: llama.cpp's.
    """

    name: str
    description: str
    kind: Kind
    backend: str
    free: int
    total: int
    id: str = ""
    handle: int = field(default=0, repr=False)

    @property
    def takes_layers(self) -> bool:
        """Whether a model's layers can be put there."""
        return self.kind in ("gpu", "integrated gpu")


def devices() -> list[Device]:
    """All of them, in llama.cpp's order, with the memory that is free now."""
    ggml, base = _ggml(), _base()
    found = []
    for number in range(ggml.ggml_backend_dev_count()):
        handle = ggml.ggml_backend_dev_get(number)
        props = _Props()
        base.ggml_backend_dev_get_props(handle, ctypes.byref(props))
        backend = base.ggml_backend_reg_name(base.ggml_backend_dev_backend_reg(handle))
        if props.type < len(_KINDS):
            found.append(
                Device(
                    name=_text(props.name),
                    description=_text(props.description),
                    kind=_KINDS[props.type],
                    backend=_text(backend),
                    free=props.memory_free,
                    total=props.memory_total,
                    id=_text(props.device_id),
                    handle=handle,
                )
            )
    return found


def choose_devices(names: Sequence[str]) -> list[Device]:
    """The devices that take layers, by their names; without names all that are worth it.

    Those are, as llama.cpp chooses them, other machines, then GPUs, each once even if two backends
    see it, and integrated GPUs only where there is no other.

    Raises:
        UsageError: a name that is none of them.
    """
    able = [device for device in devices() if device.takes_layers]
    if not names:
        gpus = [device for device in able if device.kind == "gpu"]
        gpus.sort(key=lambda device: device.backend != "RPC")
        local = any(device.backend != "RPC" for device in gpus)
        return _once(gpus + [device for device in able if not local and device not in gpus])
    by_name = {device.name.lower(): device for device in able}
    wanted = [name.lower() for name in names]
    for name in wanted:
        if name != _NO_DEVICE and name not in by_name:
            known = ", ".join([_NO_DEVICE, *(device.name for device in able)])
            raise UsageError(f"--device: nothing here is called {name!r}; there is: {known}")
    if _NO_DEVICE in wanted and len(wanted) > 1:
        raise UsageError("--device cpu stands alone: the CPU takes what the others leave anyway")
    return _once([by_name[name] for name in wanted if name != _NO_DEVICE])


def _once(found: list[Device]) -> list[Device]:
    """Each piece of hardware once."""
    return list({device.id or device.name: device for device in reversed(found)}.values())[::-1]


def cpu_buffer_type() -> int:
    """llama.cpp's handle of main memory."""
    handle: int = _base().ggml_backend_cpu_buffer_type()
    return handle


def cpu_function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the CPU's part of llama.cpp, which may be in a library of its own."""
    registry = _base().ggml_backend_dev_backend_reg(_base().ggml_backend_dev_by_type(_CPU))
    address = _base().ggml_backend_reg_get_proc_address(registry, name.encode())
    return ctypes.CFUNCTYPE(result, *arguments)(address)


def features() -> dict[str, list[str]]:
    """What each backend was built for or found, by its name: `{"CPU": ["AVX2", ...]}`."""
    ggml, base = _ggml(), _base()
    found = {}
    for number in range(ggml.ggml_backend_reg_count()):
        registry = ggml.ggml_backend_reg_get(number)
        address = base.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_get_features")
        names = []
        if address:
            entries = ctypes.CFUNCTYPE(ctypes.POINTER(_Feature), ctypes.c_void_p)(address)(registry)
            index = 0
            while entries and entries[index].name:
                value = _text(entries[index].value)
                name = _text(entries[index].name)
                if value != "0":
                    names.append(name if value == "1" else f"{name}={value}")
                index += 1
        found[_text(base.ggml_backend_reg_name(registry))] = names
    return found


class _Feature(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("value", ctypes.c_char_p)]


class _Props(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("capabilities", ctypes.c_bool * 8),  # four are in use
    ]


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


@functools.cache
def _ggml() -> Any:
    """libggml, which knows the backends."""
    library = llama.ggml()
    for name in ("ggml_backend_dev_count", "ggml_backend_reg_count"):
        getattr(library, name).restype = ctypes.c_size_t
    for name in ("ggml_backend_dev_get", "ggml_backend_reg_get"):
        getattr(library, name).restype = ctypes.c_void_p
        getattr(library, name).argtypes = [ctypes.c_size_t]
    return library


@functools.cache
def _base() -> Any:
    library = llama.ggml()
    library.ggml_backend_dev_get_props.restype = None
    library.ggml_backend_dev_get_props.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.ggml_backend_dev_by_type.restype = ctypes.c_void_p
    library.ggml_backend_dev_backend_reg.restype = ctypes.c_void_p
    library.ggml_backend_dev_backend_reg.argtypes = [ctypes.c_void_p]
    library.ggml_backend_reg_name.restype = ctypes.c_char_p
    library.ggml_backend_reg_name.argtypes = [ctypes.c_void_p]
    library.ggml_backend_reg_get_proc_address.restype = ctypes.c_void_p
    library.ggml_backend_reg_get_proc_address.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.ggml_backend_cpu_buffer_type.restype = ctypes.c_void_p
    return library
