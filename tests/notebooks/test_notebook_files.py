import nbformat
import pytest
from notebook_files import BYTES, ROOT, SOURCES, cell_at, faults, run_short

SCRIPT = """# %% [markdown]
# # A tiny study

# %%
import os

short = os.environ["BAYES_IR_SHORT"]

# %%
1 + int(short)
"""

FAILED = nbformat.v4.new_output("error", ename="E", evalue="", traceback=["E"])
WARNED = nbformat.v4.new_output("stream", name="stderr", text="/tmp/kernel_1/2.py:3: Warning")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_an_executed_notebook_is_that_of_its_source(source):
    assert faults(source) == []


def test_every_executed_notebook_has_a_source_and_all_are_numbered():
    assert SOURCES
    made = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert {path.stem for path in made} <= {path.stem for path in SOURCES}
    numbers = [int(source.stem.split("_")[0]) for source in SOURCES]
    assert len(set(numbers)) == len(numbers)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "1_tiny.py"
    path.write_text(SCRIPT)
    return path


def write(
    source,
    *,
    code=('import os\n\nshort = os.environ["BAYES_IR_SHORT"]', "1 + int(short)"),
    counts=(1, 2),
    outputs=(),
):
    v4 = nbformat.v4
    cells = [v4.new_code_cell(text, execution_count=n) for text, n in zip(code, counts, strict=True)]
    cells[-1].outputs = list(outputs)
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# A tiny study"), *cells])
    nbformat.write(notebook, source.with_suffix(".ipynb"))


def shown(text, kind="text/plain"):
    return nbformat.v4.new_output("execute_result", data={kind: text}, execution_count=2)


def test_a_notebook_without_fault(source):
    write(
        source,
        outputs=[shown("2"), shown("iVBOR/tmp/x", "image/png"), shown("https://a.org/tmp/x and n/tmp/a")],
    )
    assert faults(source) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"code": ("import os", "1 + int(short)")}, "another cell 1"),
        ({"code": ("1",), "counts": (1,)}, "another cell 1"),
        ({"counts": (1, None)}, "not run once each"),
        ({"counts": (2, 1)}, "not run once each"),
        ({"outputs": [FAILED]}, "cell 2 ended in an error"),
        ({"outputs": [WARNED]}, "/tmp/kernel_1"),
        ({"outputs": [shown("see '/home/someone/x.zarr'")]}, "cell 2 has the path /home/someone"),
        ({"outputs": [shown("<b>C:\\data</b>", "text/html")]}, "the path C:"),
        ({"outputs": [shown("x" * BYTES, "image/png")]}, "bytes, above"),
    ],
)  # fmt: skip
def test_faults_are_found(source, change, told):
    write(source, **change)
    [fault] = faults(source)
    assert told in fault


def test_a_cell_too_few_and_no_notebook_are_found(source):
    assert "make notebooks" in faults(source)[0]
    write(source)
    source.write_text(SCRIPT + "\n# %%\n3\n")
    assert faults(source) == ["1_tiny.ipynb has 3 cells, not 4; run `make notebooks`"]


def test_a_short_run_is_told_so_and_fails_with_its_cell(source, tmp_path):
    run_short(source, tmp_path)
    source.write_text(SCRIPT.replace("1 + int", "later = 1 / 0 +int"))
    with pytest.raises(
        AssertionError, match=r"1_tiny\.py failed in\n\n# %%\nlater = 1 / 0(.|\n)*ZeroDivisionError"
    ):
        run_short(source, tmp_path)


def test_the_cell_of_a_line():
    assert cell_at(SCRIPT, 1).startswith("# %% [markdown]")
    assert cell_at(SCRIPT, 5).startswith("# %%\nimport os")
    assert cell_at(SCRIPT, 10) == "# %%\n1 + int(short)"
    assert cell_at("import os\n# %%\n1", 1) == "import os"
