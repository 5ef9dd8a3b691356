"""The notebooks in examples: how they are committed, and that they run."""
import ast
import json
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
LARGEST = 400_000
MACHINE_PATH = re.compile(
    r"(?<![\w.:~}/-])/(" + "|".join(("root", "home", "Users", "tmp", "work")) + r")/|\b[A-Z]:\\")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def text(part):
    """A string as notebooks hold it, whole or line by line."""
    return part if isinstance(part, str) else "".join(part)


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def printed(output):
    """All of an output that is text."""
    data = output.get("data", {})
    return text(output.get("text", "")) + "".join(
        text(content) for kind, content in data.items() if kind.startswith("text/"))


def test_notebooks_are_numbered_without_gaps():
    names = [re.fullmatch(r"(\d+)_[a-z0-9_]+", path.stem) for path in NOTEBOOKS]
    assert None not in names, NOTEBOOKS
    assert [int(name[1]) for name in names] == list(range(1, len(NOTEBOOKS) + 1))
    assert NOTEBOOKS


def test_the_readme_lists_each():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\(examples/(\w+)\.ipynb\)", readme) == [path.stem for path in NOTEBOOKS]


@each_notebook
def test_a_notebook_is_small_and_valid(path):
    assert path.stat().st_size < LARGEST, "keep one format of each picture, and fewer pixels"
    notebook = read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["cells"][0]["cell_type"] == "markdown"
    assert text(notebook["cells"][0]["source"]).startswith(f"# {path.stem.partition('_')[0]}. ")
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
        assert cell["cell_type"] in ("markdown", "code")
        assert cell["metadata"] == {}
        assert text(cell["source"]).strip()


@each_notebook
def test_a_notebook_was_run_from_top_to_bottom_without_an_error(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for output in outputs(notebook):
        assert output["output_type"] in ("stream", "execute_result", "display_data"), output
        assert output.get("name") != "stderr", output
    formats = [set(output.get("data", {})) & {"image/png", "image/jpeg"}
               for output in outputs(notebook)]
    assert any(formats), "no picture"
    assert all(len(each) <= 1 for each in formats), "a picture in two formats"


@each_notebook
def test_a_notebook_names_no_machine_and_its_lines_are_short(path):
    notebook = read(path)
    for cell in notebook["cells"]:
        for line in text(cell["source"]).splitlines():
            assert len(line) <= 100, line
            assert not MACHINE_PATH.search(line), line
    for output in outputs(notebook):
        assert not MACHINE_PATH.search(printed(output)), printed(output)


@each_notebook
def test_a_notebook_imports_the_package_and_no_helpers(path):
    allowed = {"tinyfcn", "numpy", "PIL", *sys.stdlib_module_names}
    imported = set()
    for cell in code_cells(read(path)):
        for node in ast.walk(ast.parse(text(cell["source"]))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or ".").partition(".")[0])
    assert "tinyfcn" in imported
    assert imported <= allowed


@pytest.mark.parametrize("line, found", [
    ("open('/home/ann/photo.jpg')", True), ("/Users/ann/x.png", True), ("'C:\\\\data'", True),
    ("../docs/speed.md", False), ("a/tmp/b", False), ("numbers /home", False)])
def test_what_a_machine_path_is(line, found):
    assert bool(MACHINE_PATH.search(line)) == found


@pytest.mark.notebooks
@each_notebook
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    needs = "runs notebooks with nbclient, which is not installed"
    nbclient = pytest.importorskip("nbclient", reason=needs)
    nbformat = pytest.importorskip("nbformat", reason=needs)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    # Raises at the first cell that does.
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3",
                            resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    for output in outputs(notebook):
        assert output.get("name") != "stderr", output["text"]
