#!/usr/bin/env python3
# Renders what scripts/gpu_check.sh measured as tables.
"""Usage: gpu_report.py FOLDER

Reads links.json, resident.json, budget-*.json, slice.json, exact.json and drafts.json of the
folder, as far as they are there, and prints markdown.
"""
import json
import pathlib
import sys


def read(folder, name):
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def rate(bytes_per_second):
    return f"{bytes_per_second / 1e9:.2f} GB/s"


def links_table(links):
    yield f"Links of {links['device']}; {links['isa']}, {links['threads']} threads."
    yield ""
    yield "| link | beside | rate | of alone |"
    yield "| --- | --- | ---: | ---: |"
    for row in links["rows"]:
        if "why_not" in row:
            yield f"| {row['link']} | | {row['why_not']} | |"
        else:
            yield (f"| {row['link']} | {row['beside'] or 'nothing'} | "
                   f"{rate(row['bytes_per_second'])} | {row['share_of_alone']:.0%} |")


def bench_rows(name, bench):
    for row in bench["rows"]:
        share = f"{row['share']:.0%}" if row["ceiling_bytes_per_second"] else ""
        ceiling = rate(row["ceiling_bytes_per_second"]) if share else ""
        tokens, hits = "–", "–"
        if row["tokens_per_second"]:
            tokens = f"{row['tokens_per_second']:.2f} ± {row['tokens_per_second_mad']:.2f}"
            hits = f"{row['hit_rate']:.1%}"
        yield (f"| {name} | {row['name']} | {tokens} | {hits} | "
               f"{row['bytes_per_token'] / 1e6:.2f} MB | {rate(row['bytes_per_second'])} | "
               f"{ceiling} | {share} |")


def bench_table(runs):
    yield "| run | rate | tokens/s | hits | bytes/token | reached | ceiling | share |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for name, bench in runs:
        yield from bench_rows(name, bench)


def main():
    folder = pathlib.Path(sys.argv[1])
    names = ["resident", *sorted(p.stem for p in folder.glob("budget-*.json")), "slice"]
    runs = [(name, read(folder, name)) for name in names]
    runs = [(name, bench) for name, bench in runs if bench is not None]
    lines = []
    exact = read(folder, "exact")
    if exact is not None:
        lines += [f"Logits of the shipped model: {exact['runs']} runs on the device, each the bits "
                  "of the CPU.", ""]
    drafts = read(folder, "drafts")
    if drafts is not None:
        lines += [f"Its text with drafts: {drafts['runs']} runs on the device, each that of the "
                  "CPU without.", ""]
    links = read(folder, "links")
    if links is not None:
        lines += [*links_table(links), ""]
    if runs:
        lines += [*bench_table(runs), "", "Medians, ± median absolute deviation."]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
