"""How kernels are compiled: SIMD widths, what the cache on disk is keyed by, what is said."""
import concurrent.futures
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import tinyfcn
from tinyfcn import kernels
from tinyfcn.kernels.cpu import simd

PROGRAM = pathlib.Path(__file__).with_name("compiled_calls.py")
COMPILING = "compiling kernels for this machine"
WIDTHS = {"avx512": 512, "avx2": 256, "128": 128}
HOSTS = simd.host_width()
OTHER = "avx2" if HOSTS == 128 else "128"
LARGEST, SMALLEST = 4, 1            # what pooling gives, as written and after `turn_maximum`


def start(*jobs, cache=None, width="", **more):
    """Run compiled_calls.py in a process with these environment variables; return it, ended."""
    own = {"NUMBA_CACHE_DIR", "NUMBA_THREADING_LAYER", "NUMBA_OPT"}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment |= {"TINYFCN_SIMD": width, "NUMBA_NUM_THREADS": "2", **more}
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    return subprocess.run([sys.executable, str(PROGRAM), *jobs], env=environment,
                          capture_output=True, text=True, timeout=600)


def run(*jobs, **options):
    """The report of compiled_calls.py, which must end well."""
    process = start(*jobs, **options)
    assert process.returncode == 0, f"{process.returncode}: {process.stderr}"
    return json.loads(process.stdout.splitlines()[-1])


def said(report, text):
    return [level for level, message in report["log"] if text in message]


@pytest.fixture(scope="module")
def first_runs(tmp_path_factory):
    """{width: (report, cache folder)} of processes that began with an empty cache each.

    But the host's own width is that of all other tests and has the cache that they have.
    """
    # Not in the threads: the first to ask for a folder makes the one that holds them.
    caches = {width: None if bits == HOSTS else tmp_path_factory.mktemp(f"cache_{width}")
              for width, bits in WIDTHS.items()}

    def first_run(width):
        cache = caches[width]
        return run("agreement", "failing", cache=cache, width=width, NUMBA_NUM_THREADS="1"), cache

    with concurrent.futures.ThreadPoolExecutor(len(WIDTHS)) as pool:
        return dict(zip(WIDTHS, pool.map(first_run, WIDTHS)))


@pytest.fixture
def checkout(tmp_path):
    """A folder with a copy of the package, whose files may be edited."""
    ignored = shutil.ignore_patterns("__pycache__", "*.h5", "kernels", "weights")
    shutil.copytree(pathlib.Path(tinyfcn.__file__).parent, tmp_path / "tinyfcn", ignore=ignored)
    shutil.copytree(pathlib.Path(kernels.__file__).parent, tmp_path / "kernels", ignore=ignored)
    return tmp_path


def turn_maximum(checkout, back=False):
    """Edit a file that pooling's kernel calls into, so that it finds the minimum."""
    path = checkout / "kernels" / "cpu" / "simd.py"
    old, new = ("<", ">") if back else (">", "<")
    text = path.read_text(encoding="utf-8")
    line = 'larger = builder.fcmp_ordered("{}"'
    assert text.count(line.format(old)) == 1
    path.write_text(text.replace(line.format(old), line.format(new)), encoding="utf-8")


# ---- widths


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_gives_the_right_results(width, first_runs):
    report, _ = first_runs[width]
    assert report["bits"] == WIDTHS[width]
    assert report["agreement"] == []


@pytest.mark.parametrize("value", ["", "  "])
def test_width_is_the_hosts_if_none_is_wished(value, monkeypatch):
    monkeypatch.setenv("TINYFCN_SIMD", value)
    assert simd.chosen_width() == simd.host_width()
    monkeypatch.delenv("TINYFCN_SIMD")
    assert simd.chosen_width() == simd.host_width()


@pytest.mark.parametrize("features, bits", [
    ({"avx512f": True, "avx2": True, "fma": True}, 512),
    ({"avx512f": False, "avx2": True, "fma": True}, 256),
    ({"avx2": True, "fma": False}, 128),
    ({"neon": True}, 128),
    ({}, 128),
])
def test_width_of_a_host_follows_from_its_features(features, bits, monkeypatch):
    monkeypatch.setattr(simd.llvmlite.binding, "get_host_cpu_features", lambda: features)
    assert simd.host_width() == bits


@pytest.mark.parametrize("value, bits", [("AVX512", 512), (" avx2 ", 256), ("128", 128)])
def test_width_may_be_wished(value, bits, monkeypatch):
    monkeypatch.setenv("TINYFCN_SIMD", value)
    assert simd.chosen_width() == bits


@pytest.mark.parametrize("value", ["avx1024", "512", "0", "avx512,avx2"])
def test_another_width_is_an_error(value, monkeypatch):
    monkeypatch.setenv("TINYFCN_SIMD", value)
    with pytest.raises(ValueError) as error:
        simd.chosen_width()
    assert str(error.value) == f"TINYFCN_SIMD={value}: choose one of avx512, avx2, 128"


def test_a_wrong_width_stops_the_import_of_kernels():
    process = start("pooling", width="sse9")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        "ValueError: TINYFCN_SIMD=sse9: choose one of avx512, avx2, 128")


# ---- the cache


def test_a_process_loads_what_another_of_the_same_width_compiled(tmp_path):
    first = run("pooling", cache=tmp_path, width="avx2")
    assert (first["hits"], first["misses"]) == (0, 1)
    other = run("pooling", cache=tmp_path, width="128")
    assert (other["bits"], other["hits"], other["misses"]) == (128, 0, 1)
    again = run("pooling", cache=tmp_path, width="avx2")
    assert (again["bits"], again["hits"], again["misses"]) == (256, 1, 0)
    assert {first["pooling"], other["pooling"], again["pooling"]} == {LARGEST}


def test_an_edit_in_a_file_that_a_kernel_calls_into_compiles_anew(checkout, tmp_path):
    options = {"cache": tmp_path / "cache", "PYTHONPATH": str(checkout)}
    first = run("pooling", **options)
    assert (first["pooling"], first["hits"], first["misses"]) == (LARGEST, 0, 1)
    turn_maximum(checkout)
    edited = run("pooling", **options)
    assert (edited["pooling"], edited["hits"], edited["misses"]) == (SMALLEST, 0, 1)
    turn_maximum(checkout, back=True)
    restored = run("pooling", **options)
    assert (restored["pooling"], restored["hits"], restored["misses"]) == (LARGEST, 1, 0)


def test_an_edit_under_a_running_process_leaves_no_stale_kernel(checkout, tmp_path):
    options = {"cache": tmp_path / "cache", "PYTHONPATH": str(checkout)}
    assert run("edit_then_pooling", **options)["edit_then_pooling"] == LARGEST
    assert run("pooling", **options)["pooling"] == SMALLEST


def test_without_a_folder_to_write_to_kernels_are_compiled_in_every_process(checkout):
    nothing = checkout / "a file"
    nothing.write_text("")
    # The three places that Numba tries: its variable, beside the source, the user's cache.
    (checkout / "kernels" / "cpu" / "__pycache__").write_text("")
    options = {"cache": nothing / "cache", "PYTHONPATH": str(checkout),
               "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(nothing),
               "XDG_CACHE_HOME": str(nothing / "home")}
    for _ in range(2):
        report = run("pooling", **options)
        assert report["pooling"] == LARGEST
        assert report["hits"] == 0
        assert said(report, "no folder to keep compiled kernels in") == ["WARNING"]


@pytest.mark.parametrize("suffix", [".nbc", ".nbi"])
def test_a_damaged_cache_is_compiled_anew(suffix, first_runs, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(first_runs[OTHER][1], cache)
    for path in cache.rglob(f"*{suffix}"):
        path.write_bytes(path.read_bytes()[:-20])
    damaged = run("pooling", cache=cache, width=OTHER)
    assert (damaged["pooling"], damaged["hits"], damaged["misses"]) == (LARGEST, 0, 1)
    mended = run("pooling", cache=cache, width=OTHER)
    assert (mended["pooling"], mended["hits"], mended["misses"]) == (LARGEST, 1, 0)


# ---- what is said, and what is left behind


def test_compiling_is_announced_once_by_the_process_that_does_it(first_runs):
    report, cache = first_runs[OTHER]
    assert report["misses"] > 1
    assert said(report, COMPILING) == ["INFO"]
    warm = run("pooling", cache=cache, width=OTHER)
    assert (warm["hits"], warm["misses"]) == (1, 0)
    assert warm["log"] == []


def test_numbas_optimization_level_is_left_as_it_was(first_runs):
    for report, _ in first_runs.values():
        assert report["failing"] == "TypingError"
        assert report["level_kept"]


# ---- threads


@pytest.mark.parametrize("layer, module", [
    ("workqueue", "workqueue"), ("omp", "omppool"), ("tbb", "tbbpool")])
def test_python_threads_at_once_with_every_threading_layer(layer, module, first_runs):
    try:
        importlib.import_module(f"numba.np.ufunc.{module}")
    except ImportError as error:
        pytest.skip(f"the threading layer {layer} is not here: {error}")
    _, cache = first_runs[OTHER]
    report = run("threads", cache=cache, width=OTHER, NUMBA_THREADING_LAYER=layer)
    assert report["threads"] == layer
    assert report["misses"] == 0
