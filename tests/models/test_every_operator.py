"""No operator is exported without having been held to the battery."""

import importlib
import inspect
from pathlib import Path

from operator_case import OperatorCase

from bayes_ir.models import operators
from bayes_ir.models.operators import LinearOperator


def _descendants(case: type) -> set[type]:
    below = set(case.__subclasses__())
    return below.union(*map(_descendants, below))


def test_every_exported_linear_operator_is_held_to_the_battery():
    for path in Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(path.stem)
    exported = {
        value
        for value in (getattr(operators, name) for name in operators.__all__)
        if inspect.isclass(value) and issubclass(value, LinearOperator) and not inspect.isabstract(value)
    }
    tested = set()
    for case in _descendants(OperatorCase):
        if case.__name__.startswith("Test"):
            tested |= set(type(case().build()).__mro__)
    assert len(exported) > 10
    assert exported <= tested
