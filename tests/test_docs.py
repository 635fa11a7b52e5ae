"""The site holds together: navigation, links, tables, public names, notebooks. (`make docs` builds it.)"""

import re
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path[:0] = [str(DOCS / "_hooks"), str(ROOT / "benchmarks")]

from _results import kept_results  # noqa: E402
from api_pages import api_pages, missing_anchors  # noqa: E402
from figure_blocks import figure_block, figure_names  # noqa: E402
from grid_tables import MADE, grid_gaussian, grid_one_bit, kernel_list  # noqa: E402
from notebook_pages import notebook_list, notebook_pages  # noqa: E402
from public_names import PAGES, WINGS, page_of, public_names, sections  # noqa: E402
from tables import TABLES  # noqa: E402

from bayes_ir import inference  # noqa: E402

GENERATED = {*api_pages(), "results.md", "images/one_bit_digit.png", "images/jensen_gap_study.png"}
PAGE_FILES = sorted(DOCS.rglob("*.md"))
PICTURE = b"\x89PNG\r\n\x1a\n, as far as a page is concerned"


def text_of(name):
    return " ".join((DOCS / name).read_text().split())


def test_every_page_is_in_the_navigation_and_there():
    def files(entries):
        for entry in entries:
            for value in entry.values() if isinstance(entry, dict) else [entry]:
                yield from [value] if isinstance(value, str) else files(value)

    listed = set(files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    written = {str(path.relative_to(DOCS)) for path in PAGE_FILES}
    assert written <= listed
    assert listed <= written | GENERATED


@pytest.mark.parametrize("path", PAGE_FILES, ids=lambda path: path.stem)
def test_links_and_tables_of_a_page_are_there(path):
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        found = (path.parent / target).resolve().relative_to(DOCS)
        assert str(found) in GENERATED or (DOCS / found).exists(), target
    for identifier in re.findall(r"\]\[(bayes_ir[\w.]*)\]", text):
        assert identifier in public_names(), identifier
    assert set(re.findall(r"<!-- table: (\w+) -->", text)) <= {*MADE, *TABLES}
    for included in re.findall(r'^--8<-- "(.+)"$', text, flags=re.MULTILINE):
        assert (ROOT / included).exists()


def test_the_first_posterior_is_that_of_the_readme():
    first = [
        re.search(r"```python\n.*?```", path.read_text(), flags=re.DOTALL)[0]
        for path in (ROOT / "README.md", DOCS / "index.md")
    ]
    assert first[0] == first[1]


def test_every_public_name_is_on_a_page():
    pages = api_pages()
    assert {f"bayes_ir.inference.{name}" for name in inference.__all__} <= set(public_names())
    for path, (module, name) in public_names().items():
        if module in WINGS and not name:
            continue  # bayes_ir.models itself
        page = pages[f"api/{page_of(module).file}.md"]
        section = page.split(f"::: {module}\n")[1].split("\n:::")[0]
        assert not name or f"\n        - {name}\n" in f"{section}\n", path
        assert f"#{module}{'.' if name else ''}{name})" in pages["api/index.md"], path


def test_a_page_without_a_name_is_found_out():
    html = {
        page.file: "".join(
            f'<h2 id="{module}"></h2>' + "".join(f'<h3 id="{module}.{name}"></h3>' for name in names)
            for module, names in sections()[page].items()
        )
        for page in PAGES
    }
    assert missing_anchors(html) == []
    html["kernels"] = html["kernels"].replace('id="bayes_ir.inference.kernels.dps.DPS"', "")
    assert missing_anchors(html) == ["bayes_ir.inference.kernels.dps.DPS (page kernels)"]


def test_names_that_do_not_know_where_they_are_from_are_found():
    assert public_names()["bayes_ir.bench.SUITES"] == ("bayes_ir.bench.suites", "SUITES")
    assert public_names()["bayes_ir.inference.kernels.Info"] == ("bayes_ir.inference.kernels.base", "Info")
    assert public_names()["bayes_ir.models.mri_masks"] == ("bayes_ir.models.operators.mri_masks", "")


def test_a_module_that_is_new_has_a_page():
    assert page_of("bayes_ir.analysis.new").file == "analysis"
    assert page_of("bayes_ir.analysis.regions").file == "uncertainty"
    assert page_of("bayes_ir.analysis.plots.new").file == "plots"
    assert page_of("bayes_ir.models.priors.new").file == "priors"
    assert page_of("bayes_ir.new").file == "face"


def rows(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")[2:]]


def test_the_grid_has_the_figures_of_its_studies():
    gaussian, one_bit = rows(grid_gaussian()), rows(grid_one_bit())
    [ours] = [row for row in gaussian if row[4] == "`GuidedDiffusion()`"]
    [figure] = {
        row["distance / floor"]
        for row in kept_results("exact_posterior")
        if (row["problem"], row["budget"]) == ("blur", 200)
        and row["kernel"].startswith("GuidedDiffusion(sampler=Ancestral(steps=200")
        and "with_jacobian=True" in row["kernel"]
    }
    assert ours[:4] == ["`Calibrated`", "b²/a Jᵀ Aᵀ", "solve", "Ancestral, from draws"]
    assert ours[6] == f"{figure:.3g}"
    # Three digits in one figure.
    digits = [
        row["distance / floor"]
        for row in kept_results("quantized_cells")
        if row["problem"].startswith("digits") and row["kernel"] == "QCSSGM"
    ]
    [published] = [row for row in one_bit if row[4] == "`QCSSGM`"]
    assert len(digits) == 3
    assert published[-1] == f"{sum(digits) / 3:.3g}"
    for table in (gaussian, one_bit):
        assert {row[0].strip("`").split("(")[0] for row in table} >= {
            "Flat",
            "Isotropic",
            "Calibrated",
            "Tweedie",
        }


def test_every_kernel_is_listed_with_its_source():
    listed = rows(kernel_list())
    entries = inference.kernels()
    assert len(listed) == len(entries)
    for row, (name, entry) in zip(listed, entries.items(), strict=True):
        assert row[0].startswith(f"[`{name}`]")
        assert row[1] == entry.kernel.citation
    twisted = next(row for row in listed if row[0].startswith("[`TwistedSMC`]"))
    assert "particles=1000" in twisted[0]


def test_figures_in_the_page_of_limits_are_those_of_the_studies():
    told = text_of("limits.md")
    tasks = kept_results("restoration_kernels")["rows"]
    phase = [row["psnr"] for row in tasks if row["task"] == "phase retrieval" and "psnr" in row]
    assert f"{min(phase):.1f} to {max(phase):.1f} dB" in told
    small = kept_results("sampler_accuracy")
    for kernel in ("DPS(", "MCG("):
        ratios = [
            row["ratio"]
            for row in small
            if row["kernel"].startswith(kernel) and "weight='likelihood'" not in row["kernel"]
        ]
        assert f"{min(ratios):.3g} to {max(ratios):.3g}" in told
    mixture = [float(row[8]) for row in rows(grid_gaussian()) if row[4] != "`Exact`" and row[2] != "row sums"]
    assert f"{min(mixture):.3g} to {max(mixture):.3g} times the floor" in told


def test_figures_in_the_pages_of_checks_are_those_of_the_studies():
    digits = kept_results("jensen_gap")["digits"]
    told = text_of("jensen-gap.md")
    assert f"broken in {digits['published_bound_broken']} of {digits['of']} cases" in told
    assert digits["bound_broken"] == 0
    assert "broken in none" in told
    shares = [
        row["share of high k"]
        for row in kept_results("loo_experiment")
        if (row["prior"], row["data"], row["model"]) == ("mnist", "signs", "right")
    ]
    assert f"{100 * sum(shares) / len(shares):.0f} % of the signs" in text_of("model-checking.md")


def test_every_picture_is_on_the_page_of_plots_with_its_call():
    assert set(re.findall(r"<!-- figure: (\w+) -->", (DOCS / "plots.md").read_text())) == set(figure_names())
    for name in figure_names():
        block = figure_block(name)
        assert re.search(r"```python\nanalysis\.plot_\w+\(.*\)\n```", block, flags=re.DOTALL), name
        assert block.endswith(f"(images/{name}.png)")
    with pytest.raises(ValueError, match="no picture 'sunset'"):
        figure_block("sunset")


def notebook(folder, *cells, name="1-tiny"):
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), folder / f"{name}.ipynb")
    return notebook_pages(folder)


def test_a_notebook_becomes_a_page_with_its_pictures(tmp_path):
    import base64

    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="two\n"),
        nbformat.v4.new_output("display_data", data={"image/png": base64.b64encode(PICTURE).decode()}),
    ]
    [page] = notebook(
        tmp_path,
        nbformat.v4.new_markdown_cell("# One and one\n\nA question."),
        nbformat.v4.new_code_cell("print('two')", execution_count=1, outputs=outputs),
    )
    assert page.title == "One and one"
    assert "```python\nprint('two')\n```" in page.markdown
    assert "    two\n" in page.markdown
    [(name, content)] = page.pictures.items()
    assert content == PICTURE
    assert f"(1-tiny_files/{name})" in page.markdown
    assert notebook_list([page]) == "1. [One and one](1-tiny.md)"


def test_a_notebook_that_was_not_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"1-tiny\.ipynb: 1 code cells were not run"):
        notebook(tmp_path, nbformat.v4.new_markdown_cell("# A"), nbformat.v4.new_code_cell("1 + 1"))


def test_a_notebook_without_a_heading_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no heading"):
        notebook(tmp_path, nbformat.v4.new_markdown_cell("words"))


def test_without_notebooks_there_are_no_pages(tmp_path):
    assert notebook_pages(tmp_path) == []
    assert notebook_pages(tmp_path / "missing") == []
    assert "No study" in notebook_list([])
