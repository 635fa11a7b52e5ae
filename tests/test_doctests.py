"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

WINGS = ("bayes_ir", "bayes_ir.models", "bayes_ir.inference", "bayes_ir.analysis")


def _modules():
    for wing in WINGS:
        package = importlib.import_module(wing)
        yield wing
        for found in pkgutil.walk_packages(package.__path__, prefix=f"{wing}."):
            yield found.name


@pytest.mark.parametrize("name", sorted(set(_modules())))
def test_examples_run(name):
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0


def test_the_examples_are_found():
    names = set(_modules())
    assert {"bayes_ir.api", "bayes_ir.models.diffusion", "bayes_ir.inference.kernels.dmps"} <= names
