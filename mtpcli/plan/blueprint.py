"""A model without its values: the shape and the type of every tensor, known before a download."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from gguf import GGMLQuantizationType as Type

from convert.hf_config import ModelConfig, read_config
from convert.model import TensorSpec, rope_factors, tensor_specs
from convert.quantize import OUTTYPES, encoded_bytes, tensor_type
from convert.writer import OutTensor, write_empty
from mtpcli.errors import ModelError, UsageError
from mtpcli.hub.names import FAMILY, Reference, parse
from mtpcli.hub.store import find
from mtpcli.llama.gguf import GgufFile, read_metadata
from mtpcli.llama.quantize import PRESETS, preset_types
from mtpcli.pair import check_target, find_drafter, kv_heads, sliding_layers, vocabulary_size
from mtpcli.synthetic.shapes import SHAPES, Shape

DRAFTER_QUANT = "q8_0"  # what `mtpcli convert` makes of drafters unless told otherwise
# What checkpoints are published in.
_SOURCE_QUANT = "bf16"
_QUANT = "q4_0"
_QUANTS = (*OUTTYPES, *PRESETS)
_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, eq=False)
class Blueprint:
    """One file.

    Attributes:
        config: its shape.
        types: element type by the tensor's name in the file.
        n_bytes: of all tensors.
    """

    config: ModelConfig
    types: Mapping[str, Type]
    n_bytes: int

    @cached_property
    def layer_bytes(self) -> list[int]:
        """Bytes of each layer's tensors."""
        sizes = [0] * self.config.layers
        for spec in tensor_specs(self.config):
            if spec.required and (match := _LAYER.match(spec.gguf)):
                sizes[int(match[1])] += spec_bytes(spec, self.types[spec.gguf])
        return sizes

    @cached_property
    def used_bytes(self) -> list[int]:
        """Bytes of each layer that one token reads: of the experts only those that it uses."""
        used = list(self.layer_bytes)
        for spec in tensor_specs(self.config):
            if spec.required and "_exps.weight" in spec.gguf and (match := _LAYER.match(spec.gguf)):
                idle = 1 - self.config.experts_used / self.config.experts
                used[int(match[1])] -= round(idle * spec_bytes(spec, self.types[spec.gguf]))
        return used


@dataclass(frozen=True, eq=False)
class Subject:
    """What is planned.

    Attributes:
        name: as people know it: `E2B`, or the file's name.
        quant: the target's type, `Q4_0`; of a file what it mostly consists of.
        target, drafter: their blueprints; without a drafter MTP cannot be planned.
        path: of a file that is here already.
        checkpoint: repository that has the checkpoint, if one is known.
    """

    name: str
    quant: str
    target: Blueprint
    drafter: Blueprint | None
    path: Path | None = None
    checkpoint: str | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of both files."""
        return self.target.n_bytes + (self.drafter.n_bytes if self.drafter else 0)


def find_subject(name: str, quant: str | None) -> Subject:
    """What a name, a file or a checkpoint's folder means.

    The name of a model that was pulled is its file.

    Raises:
        UsageError: nothing of that name, or no such quant.
        ModelError: a file that cannot be read or is no target.
    """
    path = Path(name)
    if path.is_file() or (path.suffix.lower() == ".gguf" and not path.is_dir()):
        if quant is not None:
            raise UsageError(f"--quant goes with a model's name: {path} has types of its own")
        return _from_file(path)
    if (path / "config.json").is_file():
        return _from_checkpoint(path, _known_quant(quant or _QUANT))
    reference = parse(name)
    tag = reference.tag if reference else ""
    if reference and (pulled := find(Reference(reference.repository, quant or tag))):
        return _from_file(pulled.target_path, pulled.drafter_path)
    shape = _shape_named(reference.repository if reference else name)
    wanted = _known_quant(quant or tag or _QUANT)
    return Subject(
        shape.name,
        wanted.upper(),
        make_blueprint(replace(shape.target(), tied=True), wanted),
        make_blueprint(shape.drafter(), DRAFTER_QUANT),
        checkpoint=reference.repository if reference else FAMILY[shape.name.lower()],
    )


def _known_quant(name: str) -> str:
    if name.lower() not in _QUANTS:
        raise UsageError(f"--quant {name}: is not one of {', '.join(_QUANTS)}")
    return name.lower()


def source_bytes(subject: Subject) -> int:
    """Bytes of the checkpoints as they are published, without other modalities."""
    configs = [part.config for part in (subject.target, subject.drafter) if part]
    return sum(make_blueprint(config, _SOURCE_QUANT).n_bytes for config in configs)


def make_blueprint(config: ModelConfig, quant: str) -> Blueprint:
    """The file that the converter makes of a checkpoint of this shape.

    Args:
        quant: one of the converter's types, or of llama.cpp's presets.
    """
    specs = [spec for spec in tensor_specs(config) if spec.required]
    head = "token_embd.weight" if config.tied else "output.weight"
    plain = OUTTYPES[quant if quant in OUTTYPES else _SOURCE_QUANT]
    types = {spec.gguf: tensor_type(spec.gguf, spec.shape, plain, head) for spec in specs}
    types["rope_freqs.weight"] = Type.F32
    if quant in PRESETS:
        types |= _preset_types(config, specs, types, quant)
    n_bytes = sum(spec_bytes(spec, types[spec.gguf]) for spec in specs)
    return Blueprint(config, types, n_bytes + rope_factors(config).nbytes)


def _preset_types(
    config: ModelConfig, specs: list[TensorSpec], types: dict[str, Type], preset: str
) -> dict[str, Type]:
    """Ask llama.cpp, which decides it layer by layer, with an empty file of the shape."""
    from mtpcli.synthetic.build import made_up_keys

    keys = made_up_keys(replace(config, vocab=1024), "empty", OUTTYPES[_SOURCE_QUANT].file_type)
    tensors = [OutTensor(spec.gguf, spec.shape, types[spec.gguf], list) for spec in specs]
    with tempfile.TemporaryDirectory(prefix="mtpcli-plan-") as folder:
        path = Path(folder) / "empty.gguf"
        write_empty(path, keys, tensors)
        return {name: ggml_type(kind) for name, kind in preset_types(path, preset).items()}


def _shape_named(name: str) -> Shape:
    """The member of the family that a short name or a repository's name speaks of."""
    text = name.lower()
    if text in SHAPES:
        return SHAPES[text]
    if re.search(r"gemma[-_]?4", text):
        for key, shape in SHAPES.items():
            if re.search(rf"(?<![a-z0-9]){key}(?![a-z0-9])", text):
                return shape
    raise UsageError(
        f"{name}: is not one of {', '.join(shape.name for shape in SHAPES.values())}, "
        "a GGUF file, a checkpoint's folder, or a repository such as google/gemma-4-E2B-it"
    )


def _from_checkpoint(folder: Path, quant: str) -> Subject:
    config = read_config(folder)
    if config.is_drafter:
        raise ModelError(f"{folder} is a drafter's checkpoint: name its target's")
    return Subject(
        folder.resolve().name,
        quant.upper(),
        make_blueprint(config, quant),
        _family_drafter(config),
    )


def _family_drafter(config: ModelConfig) -> Blueprint | None:
    """The drafter of the family member of this shape, if it is one."""
    for shape in SHAPES.values():
        known = shape.target()
        same = (known.hidden, known.sliding, known.vocab) == (
            config.hidden, config.sliding, config.vocab,
        )  # fmt: skip
        if same:
            return make_blueprint(shape.drafter(), DRAFTER_QUANT)
    return None


def _from_file(path: Path, found: Path | None = None) -> Subject:
    """What a file is, with its drafter or the one that is found beside it."""
    file = read_metadata(path)
    check_target(file)
    target = _file_blueprint(file)
    found = found or find_drafter(path)
    drafter = _file_blueprint(read_metadata(found)) if found else _family_drafter(target.config)
    sizes: dict[str, int] = {}
    for tensor in file.tensors:
        sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.n_bytes
    quant = max(sizes, key=lambda kind: sizes[kind]).upper()
    return Subject(path.name, quant, target, drafter, path=path)


def _file_blueprint(file: GgufFile) -> Blueprint:
    config = _file_config(file)
    found = {tensor.name: tensor for tensor in file.tensors}
    for spec in tensor_specs(config):
        if not spec.required:
            continue
        if spec.gguf not in found:
            raise ModelError(f"{file.path} lacks {spec.gguf}: is it one of several parts?")
        # ggml's order is the other way round, and it drops ones.
        sizes = [size for size in reversed(found[spec.gguf].shape) if size > 1]
        if sizes != [size for size in spec.shape if size > 1]:
            raise ModelError(f"{file.path} has a shape that cannot be planned: {spec.gguf}")
    types = {tensor.name: ggml_type(tensor.type) for tensor in file.tensors}
    return Blueprint(config, types, sum(tensor.n_bytes for tensor in file.tensors))


def _file_config(file: GgufFile) -> ModelConfig:
    """The shape that a checked header speaks of."""

    def whole(key: str, default: int = 0) -> int:
        value = file.arch_value(key)
        return int(np.max(value)) if isinstance(value, (int, np.ndarray)) else default

    drafter = file.architecture != "gemma4"
    sliding = tuple(sliding_layers(file))
    heads = tuple(kv_heads(file, layer) for layer in range(len(sliding)))
    names = {tensor.name for tensor in file.tensors}
    widths: Any = np.atleast_1d(cast(Any, file.arch_value("feed_forward_length")))
    first_full = sliding.index(False) if False in sliding else 0
    return ModelConfig(
        path=file.path,
        architecture="Gemma4AssistantForCausalLM" if drafter else "Gemma4ForCausalLM",
        vocab=vocabulary_size(file),
        hidden=whole("embedding_length"),
        sliding=sliding,
        heads=whole("attention.head_count"),
        kv_heads=heads,
        kv_heads_by_layer=len(set(heads)) > 1,
        k_eq_v=not drafter and f"blk.{first_full}.attn_v.weight" not in names,
        head_dim=whole("attention.key_length_swa"),
        head_dim_full=whole("attention.key_length"),
        feed_forward=int(widths.min()),
        double_wide=len(set(widths.tolist())) > 1,
        sliding_window=whole("attention.sliding_window"),
        context=whole("context_length"),
        shared_kv_layers=len(sliding) if drafter else whole("attention.shared_kv_layers"),
        per_layer_input=whole("embedding_length_per_layer_input"),
        experts=whole("expert_count"),
        experts_used=whole("expert_used_count"),
        expert_feed_forward=whole("expert_feed_forward_length"),
        softcap=float(file.arch_value("final_logit_softcapping") or 0.0),  # type: ignore[arg-type]
        tied="output.weight" not in names,
        backbone_hidden=whole("embedding_length_out") if drafter else 0,
        centroids=int(file.metadata.get("mtpcli.ordered_head.num_centroids", 0)),  # type: ignore[arg-type]
        centroid_top_k=int(file.metadata.get("mtpcli.ordered_head.top_k", 0)),  # type: ignore[arg-type]
    )


def spec_bytes(spec: TensorSpec, kind: Type) -> int:
    """Bytes of a tensor of that type."""
    return encoded_bytes(int(np.prod(spec.shape)), kind)


def ggml_type(name: str) -> Type:
    """A type by ggml's name of it, `q4_K`.

    Raises:
        ModelError: it has none of that name.
    """
    try:
        return Type[name.upper()]
    except KeyError:
        raise ModelError(f"tensors of type {name} cannot be planned") from None
