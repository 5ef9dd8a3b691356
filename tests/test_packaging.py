"""What is installed, what imports what, and that the commands answer."""
import ast
import configparser
import importlib
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys

import pytest

import tinyfcn

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")
SOURCES = {"tinyfcn": "tinyfcn", "tinyfcn.kernels": "kernels", "tinyfcn.weights": "weights"}

# A component imports only from levels below its own; within one level, not in circles.
LEVELS = (
    ("kernels", "weights"),
    ("arrays", "data"),
    ("layers",),
    ("graph",),
    ("models",),
    ("descriptions", "interrupts", "loading", "losses", "optimizers", "metrics", "gradient_check",
     "origins", "peers", "recipes", "schedules"),
    ("checkpoints", "classification", "console", "drawing", "evaluation", "inference", "learner",
     "runs"),
    ("benchmarks", "checking", "confusion", "panels", "photos", "reports", "segmenters"),
    ("comparison", "curves", "stages", "tasks", "training", "training_options"),
    ("classify", "segment", "train", "evaluate", "gradcheck", "benchmark", "weight_files"),
    ("__main__",),
)
COMMANDS = LEVELS[-2]
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in names}
# The module of each command. `python -m tinyfcn.weights` runs a package, whose name is taken.
PROGRAMS = {name.replace("weight_files", "weights"): f"tinyfcn.{name}" for name in COMMANDS}


def listed(section, option):
    return [line.strip() for line in CONFIG[section][option].splitlines() if line.strip()]


def modules():
    """{dotted name: path} of every module of the package."""
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = path
    return found


def imports(name, path):
    """Dotted names below tinyfcn that a module imports, wherever in its code."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("tinyfcn"))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[:len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            if base == "tinyfcn" or base.startswith("tinyfcn."):
                # "from tinyfcn import kernels" imports a module, "... import backend" a name.
                yield from (f"{base}.{alias.name}" for alias in node.names)


def test_setup_cfg_lists_every_package_on_disk():
    on_disk = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert sorted(listed("options", "packages")) == sorted(on_disk)


def test_every_folder_with_modules_is_a_package():
    for path in modules().values():
        assert (path.parent / "__init__.py").exists(), path


def test_data_of_the_package_are_installed():
    assert (ROOT / "tinyfcn" / "py.typed").exists()
    patterns = [p.strip() for p in CONFIG["options.package_data"]["tinyfcn.weights"].split(",")]
    for path in (ROOT / "weights").iterdir():
        if path.is_file() and path.suffix != ".py":
            assert any(path.match(pattern) for pattern in patterns), path


def test_version_is_the_installed_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+", tinyfcn.__version__)
    assert importlib.metadata.version("tinyfcn") == tinyfcn.__version__


def test_import_brings_in_nothing_heavy():
    program = ("import sys; import tinyfcn; "
               "print(sorted({'numpy', 'numba', 'h5py', 'PIL', 'scipy'} & set(sys.modules)))")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


def test_submodules_are_attributes_without_being_imported_first():
    names = {name.split(".")[1] for name in modules() if name.count(".") == 1}
    public = sorted(name for name in names if name not in COMMANDS and not name.startswith("_"))
    program = ("import sys, tinyfcn\n"
               "for name in sys.argv[1:]: print(getattr(tinyfcn, name).__name__)")
    result = subprocess.run([sys.executable, "-c", program, *public], capture_output=True,
                            text=True)
    assert result.stdout.split() == [f"tinyfcn.{name}" for name in public], result.stderr
    assert set(public) == set(tinyfcn._SUBMODULES)
    assert set(public) <= set(dir(tinyfcn))


def test_functions_at_the_top_are_those_of_their_modules():
    assert tinyfcn.load_weights is importlib.import_module("tinyfcn.loading").load_weights
    assert tinyfcn.load_model is importlib.import_module("tinyfcn.loading").load_model
    assert tinyfcn.save_model is importlib.import_module("tinyfcn.loading").save_model
    assert tinyfcn.WeightsError is importlib.import_module("tinyfcn.weights").WeightsError
    with pytest.raises(AttributeError, match="'tinyfcn' has no attribute 'nonsense'"):
        tinyfcn.nonsense


def test_every_module_has_its_level():
    assert {name.split(".")[1] for name in modules() if "." in name} <= set(LEVEL)


def test_imports_flow_one_way():
    used = {}
    for name, path in modules().items():
        if name == "tinyfcn":
            continue
        # A package's command is no part of what the package is used for.
        component = "__main__" if name.endswith(".__main__") else name.split(".")[1]
        for target in imports(name, path):
            parts = target.split(".")
            other = parts[1] if len(parts) > 1 else ""
            if other not in LEVEL:
                assert other in ("", "__version__"), f"{name} imports {target}"
            elif other != component:
                assert LEVEL[component] > 0, f"{name} imports {target}"
                assert LEVEL[other] <= LEVEL[component], f"{name} imports {target}"
                used.setdefault(component, set()).add(other)
    assert used, "no import was found at all"

    def visit(component, way):
        assert component not in way, f"imports in a circle: {' -> '.join((*way, component))}"
        for other in used.get(component, ()):
            visit(other, (*way, component))

    for component in used:
        visit(component, ())


def test_commands_are_installed_under_their_modules_names():
    declared = dict(map(str.strip, line.split("=", 1))
                    for line in listed("options.entry_points", "console_scripts"))
    assert declared == {f"tinyfcn-{name}": f"{module}:main" for name, module in PROGRAMS.items()}
    installed = {entry.name: entry.value
                 for entry in importlib.metadata.distribution("tinyfcn").entry_points
                 if entry.group == "console_scripts"}
    assert installed == declared


@pytest.mark.parametrize("name", PROGRAMS)
def test_commands_answer(name, tmp_path):
    def call(*arguments):
        return subprocess.run([sys.executable, "-m", f"tinyfcn.{name}", *arguments],
                              capture_output=True, text=True, cwd=tmp_path, timeout=120)

    result = call("--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: ")
    assert result.stderr == ""

    result = call("--no-such-option")
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert "tinyfcn" in result.stderr
    assert "Traceback" not in result.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("variable", ["TINYFCN_SIMD", "TINYFCN_THREADS"])
@pytest.mark.parametrize("arguments", [
    ("segment", "photo.jpg"), ("evaluate", "--data", "folder"), ("gradcheck", "--layer", "Add")])
def test_a_wrong_variable_of_the_kernels_is_one_line(variable, arguments, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", f"tinyfcn.{arguments[0]}", *arguments[1:]], capture_output=True,
        text=True, cwd=tmp_path, timeout=120, env={**os.environ, variable: "0.5"})
    assert result.returncode == 2
    assert re.fullmatch(
        rf"tinyfcn-{arguments[0]}: {variable}=0\.5: choose .*\n", result.stderr), result.stderr


def test_no_file_names_a_folder_of_one_machine():
    try:
        names = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"],
            capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    pattern = re.compile(rb"(?<![\w.:~}/-])/(" + b"|".join((b"root", b"tmp", b"work")) + rb")/")
    found = []
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file() and path.suffix not in (".h5", ".png", ".jpg"):
            for number, line in enumerate(path.read_bytes().splitlines(), 1):
                if pattern.search(line):
                    found.append(f"{name}:{number}: {line[:80]!r}")
    assert found == []
