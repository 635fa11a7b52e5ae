"""Kernels written as text, read without running it: names of a table, called with keyword arguments and literals."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any

from bayes_ir import inference, models
from bayes_ir.bench.anchors import AnchorDDIM, AnchorDPS, AnchorGuidance, AnchorMCGDiff
from bayes_ir.bench.rows import Oracle, PriorDraws, Unconditional
from bayes_ir.inference import BoxProjection, DenoisingPosterior, Kernel, Sampler
from bayes_ir.models import Diffusion
from bayes_ir.words import look_up

__all__ = ["brief", "parse_kernel"]

_OWN = (AnchorDDIM, AnchorDPS, AnchorGuidance, AnchorMCGDiff, Oracle, PriorDraws, Unconditional)


def parse_kernel(text: str) -> Kernel:
    """The kernel of a ``repr``, or of a name alone with its default settings.

    Kernels, samplers and denoising posteriors are public names of :mod:`bayes_ir.inference`, forward processes those of
    :mod:`bayes_ir.models`; the rows and anchors of :mod:`bayes_ir.bench` go by their names too.

    Raises:
        ValueError: for what is no such expression, an unknown name or setting, or what a kernel refuses.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"kernel {text!r} cannot be read: {error.msg}.") from None
    if isinstance(tree, ast.Name):
        tree = ast.Call(tree, [], [])
    found = _value(tree, text)
    if not isinstance(found, Kernel):
        raise ValueError(f"{text!r} is no kernel. There are: {', '.join(sorted(_kernels()))}.")
    return found


def brief(thing: Any) -> str:
    """A kernel's ``repr`` with only the settings that are not its default."""
    if not is_dataclass(thing):
        return repr(thing)
    told = []
    for field in fields(thing):
        value = getattr(thing, field.name)
        made = field.default_factory() if field.default_factory is not MISSING else field.default
        # The steps of a composed kernel are those of its sampler.
        twice = field.name == "steps" and "sampler" in {f.name for f in fields(thing)}
        if field.repr and value != made and not twice:
            told.append(f"{field.name}={brief(value)}")
    return f"{type(thing).__name__}({', '.join(told)})"


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        kinds = _kernels() if node.func.id not in _parts() else _parts()
        kind = look_up("kernel", node.func.id, kinds)
        if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
            raise ValueError(f"kernel {text!r}: expected settings NAME=VALUE.")
        positional = [_value(a, text) for a in node.args]
        settings = {str(k.arg): _value(k.value, text) for k in node.keywords}
        known = inspect.signature(kind).parameters
        for name in settings:
            look_up(f"setting of {kind.__name__}", name, known)
        try:
            return kind(*positional, **settings)
        except TypeError as error:
            raise ValueError(f"kernel {text!r}: {error}.") from None
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise ValueError(
            f"kernel {text!r}: {ast.unparse(node)} is neither a number, text, True, False or None, nor "
            "NAME(SETTING=VALUE)."
        ) from None


@cache
def _kernels() -> Mapping[str, type]:
    return {c.__name__: c for c in _public() if issubclass(c, Kernel)}


@cache
def _parts() -> Mapping[str, type]:
    kinds = (Sampler, DenoisingPosterior, Diffusion, BoxProjection)
    return {c.__name__: c for c in _public() if issubclass(c, kinds)}


def _public() -> list[type]:
    named = [getattr(wing, name) for wing in (inference, models) for name in wing.__all__]
    return [c for c in (*named, *_OWN) if inspect.isclass(c) and not inspect.isabstract(c)]
