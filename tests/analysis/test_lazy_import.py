import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from bayes_ir import analysis

DATA = ("pandas", "xarray", "zarr")
PLOTS = ("arviz", "arviz_base", "arviz_plots", "arviz_stats", "matplotlib", "seaborn", "skimage")


def test_names_are_loaded_when_they_are_used_and_drawing_when_it_is_asked_for():
    code = f"""
import sys
import bayes_ir.analysis
print(*[m for m in {DATA + PLOTS} if m in sys.modules])
from bayes_ir.analysis import ZarrSink, mean_map, measurement_check, open_posterior
from bayes_ir.analysis import plot_uncertainty, psnr, summary
print(*[m for m in {PLOTS} if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\n\n"


def test_the_wing_does_without_torch():
    for file in Path(analysis.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"torch", "pyro"}, file


def test_every_public_name_is_found_where_it_is_listed():
    for name in analysis.__all__:
        assert getattr(analysis, name).__module__.startswith("bayes_ir.analysis.")
    assert set(analysis.__all__) <= set(dir(analysis))
    assert sorted(analysis.__all__) == sorted(analysis._MODULE_OF)
    with pytest.raises(AttributeError, match="no attribute 'plot_magic'"):
        _ = analysis.plot_magic


def test_no_module_hides_a_function_of_its_name():
    modules = {module.name for module in pkgutil.iter_modules(analysis.__path__)}
    assert len(modules) > 5 and modules.isdisjoint(analysis.__all__)
