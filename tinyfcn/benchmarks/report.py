"""The figures, to be read."""


def text(report):
    """The report as lines."""
    lines = [*_head(report), ""]
    if report["aims"]:
        lines += [*_aim_table(report["aims"]), ""]
    else:
        lines += _figures(report)
    if report["compile"]:
        lines += [*_compile_table(report["compile"]), ""]
    if not report["aims"]:
        lines += _ratio_lines(report)
    return "\n".join([*lines, *report["hints"]]).rstrip("\n")


def _head(report):
    machine = report["machine"]
    yield (f"{machine['cpu']}, {machine['simd_bits']}-bit SIMD, {machine['threads']} of "
           f"{machine['cores']} cores, {machine['threading_layer']} threads, at best "
           f"{machine['peak_gflops']:.0f} GFLOP/s")
    yield " ".join(f"{name} {version}" for name, version in report["versions"].items())


def _figures(report):
    net = report["net"]
    yield (f"{net['model']}, {net['parameters'] / 1e6:.2f} M parameters, batch {net['batch']}, "
           f"{net['size'][0]}x{net['size'][1]}, float32: {net['gflop']:.3f} GFLOP counted as "
           "direct convolution")
    yield f"first run, with compiling or loading kernels: {report['first_run_seconds']:.2f} s"
    for what in ("inference", "training"):
        figures = report[what]
        if figures:
            title = "training step, batch 1" if what == "training" else what
            yield from ("", f"{title}: median (min .. max)",
                        *_contest(figures, figures.get("gflop", net["gflop"])))
            if figures["memory"]:
                yield from _memory_lines(figures["memory"])
    yield ""
    yield from _product_table(report["matrix_products"])
    yield ""
    if report["layers"]:
        yield from _layer_table(report["layers"])
        yield ""


def _contest(figures, gflop):
    rows = [("tinyfcn", figures["ours"], None)]
    rows += [(duel["against"], duel["other"], duel["ratio"]) for duel in figures["duels"]]
    for name, seconds, ratio in rows:
        yield (f"  {name:22s} {_seconds(seconds)}  {gflop / seconds['median']:8.1f} GFLOP/s"
               + (f"  ratio {ratio:.2f}" if ratio else ""))


def _seconds(summary):
    return f"{summary['median']:8.4f} s ({summary['min']:.4f} .. {summary['max']:.4f})"


def _memory_lines(memory):
    peaks = {"tinyfcn": memory["ours"], **memory["others"]}
    listed = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in peaks.items())
    yield f"  peak memory, MB: {listed}"


def _product_table(products):
    yield "matrix products of its layers, GFLOP/s"
    yield f"  {'m x k x n':>22s} {'tinyfcn':>9s} {'NumPy':>9s} {'ratio':>6s}  layers"
    for each in products["sizes"]:
        size = " x ".join(map(str, each["size"]))
        speeds = (each["gflop"] / each[who]["median"] for who in ("ours", "other"))
        yield (f"  {size:>22s} " + " ".join(f"{speed:9.1f}" for speed in speeds)
               + f" {each['ratio']:6.2f}  {' '.join(each['layers'])}")


def _layer_table(layers):
    with_torch = layers[0]["other"] is not None
    yield ("layers, milliseconds; what runs inside its convolution counts there; model: what the "
           "cost model")
    yield "predicts of the convolutions' total; peak: GFLOP/s as a share of the machine's best"
    yield (f"  {'':16s} {'output':>18s} {'tinyfcn':>8s} {'share':>6s} {'GFLOP/s':>8s} {'peak':>5s} "
           f"{'algorithm':>10s} {'model':>8s}" + (f" {'PyTorch':>8s}" if with_torch else ""))
    for row in layers:
        size = "x".join(map(str, row["output"]))
        cells = [f"{row['name']:16s}", f"{size:>18s}", f"{1e3 * row['ours']:8.2f}",
                 f"{row['share']:6.1%}"]
        cells += [f"{row['gflops']:8.1f}", f"{row['of_peak']:5.0%}"] if row["gflops"] else [
            " " * 8, " " * 5]
        cells += [f"{row['algorithm']:>10s}", f"{1e3 * row['predicted']:8.2f}"] \
            if row["algorithm"] else [" " * 10, " " * 8]
        cells += [f"{1e3 * row['other']:8.2f}"] if with_torch else []
        yield f"  {' '.join(cells)}".rstrip()


def _ratio_lines(report):
    """The lines that sum up."""
    yield "ratio: the other's time / tinyfcn's; above 1, tinyfcn is faster"
    for what in ("inference", "training"):
        figures = report[what]
        if figures and figures["ratio"]:
            yield f"  {what:14s} {figures['ratio']:6.2f}  against {figures['against']}"
    products = report["matrix_products"]
    yield (f"  {'matrix product':14s} {products['ratio']:6.2f}  against NumPy, "
           f"lowest {products['lowest_ratio']:.2f}")


def _compile_table(figures):
    yield f"first run with an empty cache: {figures['seconds']:.2f} s; kernels compiled, seconds"
    for row in figures["kernels"]:
        count = f" x {row['count']}" if row["count"] > 1 else ""
        yield f"  {row['seconds']:6.2f}  {row['kernel']}{count}"


def _aim_table(rows):
    yield "ratio of times: the other's / tinyfcn's; of memory: tinyfcn's / the other's"
    yield f"  {'':53s} {'tinyfcn':>8s} {'other':>8s} {'measured':>9s} {'aim':>8s}"
    for row in rows:
        if "bytes" in row:
            ours, other = (f"{size / 1e9:.2f} GB" for size in (
                row["bytes"]["ours"], row["bytes"]["others"][row["against"]]))
        else:
            ours = f"{row['ours']['median']:.3f} s"
            other = f"{row['other']['median']:.3f} s" if "other" in row else ""
        sign = ">=" if row["sense"] == "at least" else "<="
        measured = f"{row['measured']:.2f}{row['unit']:>2s}"
        yield (f"  {row['work']:53s} {ours:>8s} {other:>8s} {measured:>9s} "
               f"{sign} {row['aim']:<5g} {'reached' if row['reached'] else 'missed':8s}"
               + (row["against"] or "")).rstrip()
