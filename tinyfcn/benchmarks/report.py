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
    if "gpu" in machine:
        peak = machine["peak_gflops"]
        yield (f"{machine['gpu']}, {machine['multiprocessors']} multiprocessors, at best "
               + (f"{peak / 1e3:.1f}" if peak else "?") + f" TFLOP/s in {machine['precision']} and "
               f"{machine['bandwidth']:.0f} GB/s")
    else:
        yield _cpu(machine)
    yield " ".join(f"{name} {version}" for name, version in report["versions"].items())


def _cpu(machine):
    return (f"{machine['cpu']}, {machine['simd_bits']}-bit SIMD, {machine['threads']} of "
            f"{machine['cores']} cores, {machine['threading_layer']} threads, at best "
            f"{machine['peak_gflops']:.0f} GFLOP/s")


def _figures(report):
    net, machine = report["net"], report["machine"]
    yield (f"{net['model']}, {net['parameters'] / 1e6:.2f} M parameters, batch {net['batch']}, "
           f"{net['size'][0]}x{net['size'][1]}, {machine.get('precision', 'float32')}: "
           f"{net['gflop']:.3f} GFLOP counted as direct convolution")
    yield f"first run, with compiling or loading kernels: {report['first_run_seconds']:.2f} s"
    for what in ("inference", "training"):
        figures = report[what]
        if figures:
            title = f"training step, batch {net['batch']}" if what == "training" else what
            yield from ("", f"{title}: median (min .. max)",
                        *_contest(figures, figures.get("gflop", net["gflop"]), machine))
            if figures["memory"]:
                yield from _memory_lines(figures["memory"])
    yield ""
    if "gpu" in machine:
        yield from _square_product(report["matrix_products"], machine)
    else:
        yield from _product_table(report["matrix_products"])
    yield ""
    if report["layers"]:
        yield from _layer_table(report["layers"], machine)
        yield ""


def _contest(figures, gflop, machine):
    rows = [("tinyfcn", figures["ours"], None)]
    rows += [(duel["against"], duel["other"], duel["ratio"]) for duel in figures["duels"]]
    for name, seconds, ratio in rows:
        yield (f"  {name:22s} {_seconds(seconds, machine)}  "
               f"{_speed(gflop / seconds['median'], machine)}"
               + (f"  ratio {ratio:.2f}" if ratio else ""))


def _seconds(summary, machine):
    """Median and range: in seconds, of a GPU in milliseconds."""
    if "gpu" in machine:
        median, least, most = (1e3 * summary[key] for key in ("median", "min", "max"))
        return f"{median:9.3f} ms ({least:.3f} .. {most:.3f})"
    return f"{summary['median']:8.4f} s ({summary['min']:.4f} .. {summary['max']:.4f})"


def _speed(gflops, machine):
    """GFLOP/s; of a GPU in TFLOP/s, with the share of its peak."""
    if "gpu" not in machine:
        return f"{gflops:8.1f} GFLOP/s"
    peak = machine["peak_gflops"]
    return f"{gflops / 1e3:7.2f} TFLOP/s" + (f", {gflops / peak:4.0%} of the peak" if peak else "")


def _square_product(product, machine):
    size = " x ".join(map(str, product["size"]))
    yield f"matrix product {size}: median (min .. max)"
    duels = [product] if product["ratio"] else []
    yield from _contest({**product, "duels": duels}, product["gflop"], machine)


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


def _layer_table(layers, machine):
    with_torch, on_gpu = layers[0]["other"] is not None, "gpu" in machine
    yield ("layers, milliseconds; what runs inside its convolution counts there; model: what the "
           "cost model")
    yield "predicts of the convolutions' total; peak: GFLOP/s as a share of the machine's best"
    if on_gpu:
        yield "limit: what would take longest at the GPU's peaks, and the share of that reached"
    yield (f"  {'':16s} {'output':>18s} {'tinyfcn':>8s} {'share':>6s} {'GFLOP/s':>8s} {'peak':>5s} "
           f"{'algorithm':>11s} {'model':>8s}" + (f" {'limit':>15s}" if on_gpu else "")
           + (f" {'PyTorch':>8s}" if with_torch else ""))
    for row in layers:
        size = "x".join(map(str, row["output"]))
        cells = [f"{row['name']:16s}", f"{size:>18s}", f"{1e3 * row['ours']:8.2f}",
                 f"{row['share']:6.1%}"]
        cells += [f"{row['gflops']:8.1f}" if row["gflops"] else " " * 8,
                  f"{row['of_peak']:5.0%}" if row["of_peak"] else " " * 5]
        cells += [f"{row['algorithm']:>11s}", f"{1e3 * row['predicted']:8.2f}"] \
            if row["algorithm"] else [" " * 11, " " * 8]
        if on_gpu:
            cells += [f"{row['limit']:>10s} {row['of_limit']:4.0%}" if row["limit"] else " " * 15]
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
    if "gpu" in report["machine"]:
        if products["ratio"]:
            yield f"  matrix product {products['ratio']:6.2f}  against {products['against']}"
        return
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
            ours, other = (_time(row[who]["median"]) if who in row else ""
                           for who in ("ours", "other"))
        sign = ">=" if row["sense"] == "at least" else "<="
        measured, verdict, note = "", "", row.get("lacking")
        if row["measured"] is not None:
            measured = f"{row['measured']:.2f}{row['unit']:>2s}"
            verdict, note = "reached" if row["reached"] else "missed", row["against"]
        yield (f"  {row['work']:53s} {ours:>8s} {other:>8s} {measured:>9s} "
               f"{sign} {row['aim']:<5g} {verdict:8s}" + (note or "")).rstrip()


def _time(seconds):
    return f"{seconds:.3f} s" if seconds >= 0.1 else f"{1e3 * seconds:.2f} ms"
