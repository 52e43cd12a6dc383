#!/usr/bin/env python3
# Measures what drafts are worth: drafters and lengths against none, in several memories.
"""Runs of `stoker run` with drafters, interleaved, as ratios to the run without drafts.

Each drafter gets the same share of experts in RAM: its own memory comes on top. Every run must give
the same tokens, or the script stops. With --drive the drive is modelled.

    bench/drafts.py --model models/moe-27m.q4_k.gguf --draft models/draft-1m.q8_0.gguf \\
        --file book.txt --share 1 0.5 0.25 --temp 0 0.8 --rounds 5

With --pieces N the prompts are N pieces of the file, cut at even distances; a last table has the
geometric mean and the least of their ratios, each of medians.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

CONTEXT = 1024
PIECE_BYTES = 500


def output(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def memory_bounds(args, drafter):
    plan = json.loads(output([args.stoker, "inspect", "--plan", "--json", "-m", args.model, "--ctx",
                              str(CONTEXT), "--draft", drafter]))
    plan = plan.get("plan", plan)
    return plan["minimum_bytes"], plan["full_bytes"]


def one_run(args, drafter, length, share, temperature, bounds):
    least, most = bounds
    command = [args.stoker, "run", "-m", args.model, "-f", args.prompt, "-n", str(args.tokens),
               "--ctx", str(CONTEXT), "--temp", str(temperature), "--seed", "3", "--json", "--ram",
               str(int(least + share * (most - least))), "--draft", drafter, "--draft-len", length]
    if args.drive:
        command += ["--modelled-drive", args.drive]
    records = [json.loads(line) for line in output(command).splitlines()
               if line.startswith('{"type"')]
    summary = records[-1]
    return (summary["decode"]["tokens_per_second"], summary["drafts"],
            [record["id"] for record in records[:-1]])


def acceptance(drafts):
    if not drafts:
        return ""
    return " ".join(f"{right / checked:.2f}"
                    for right, checked in zip(drafts["right_at"], drafts["checked_at"]) if checked)


def name_of(variant):
    return "none" if variant[0] == "none" else f"{variant[0].split('/')[-1]} {variant[1]}"


def measure(args, share, temperature, variants, bounds):
    """Prints a table; the ratio of medians to the first variant's, by variant."""
    rates = {variant: [] for variant in variants}
    last, tokens = {}, None
    for turn in range(args.rounds):
        cut = turn % len(variants)
        for variant in variants[cut:] + variants[:cut]:
            rate, drafts, ids = one_run(args, *variant, share, temperature, bounds[variant[0]])
            tokens = tokens or ids
            if ids != tokens:
                sys.exit(f"drafts.py: {variant} gave other tokens than the first run")
            rates[variant].append(rate)
            last[variant] = drafts
    print(f"\n{100 * share:.0f} % of experts in RAM, temperature {temperature}\n\n"
          "| drafts | tokens/s | ratio | of rounds | right, by place |\n|---|---|---|---|---|")
    plain = rates[variants[0]]
    for variant in variants:
        ratios = [a / b for a, b in zip(rates[variant], plain)]
        print(f"| {name_of(variant)} | {statistics.median(rates[variant]):.0f} | "
              f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} | "
              f"{acceptance(last[variant])} |", flush=True)
    return {variant: statistics.median(rates[variant]) / statistics.median(plain)
            for variant in variants}


def pieces(args, folder):
    """Files with the prompts."""
    if args.pieces == 0:
        return [args.file]
    text = pathlib.Path(args.file).read_bytes()
    paths = []
    for i in range(args.pieces):
        begin = i * len(text) // args.pieces
        path = folder / f"{i}.txt"
        path.write_bytes(text[begin:begin + PIECE_BYTES].decode(errors="ignore").encode())
        paths.append(str(path))
    return paths


def measure_pieces(args, share, temperature, variants, bounds):
    with tempfile.TemporaryDirectory() as folder:
        ratios = []
        for prompt in pieces(args, pathlib.Path(folder)):
            args.prompt = prompt
            ratios.append(measure(args, share, temperature, variants, bounds))
    if len(ratios) == 1:
        return
    print(f"\n{len(ratios)} prompts, {100 * share:.0f} % of experts in RAM, temperature "
          f"{temperature}\n\n| drafts | mean | least | below 0.98 |\n|---|---|---|---|")
    for variant in variants[1:]:
        of = [ratio[variant] for ratio in ratios]
        print(f"| {name_of(variant)} | {statistics.geometric_mean(of):.2f} | {min(of):.2f} | "
              f"{sum(ratio < 0.98 for ratio in of)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stoker", default="build/release/stoker")
    parser.add_argument("--model", required=True)
    parser.add_argument("--draft", action="append", default=[], help="a draft model; repeatable")
    parser.add_argument("--file", required=True, help="the prompt")
    parser.add_argument("--share", type=float, nargs="+", default=[1, 0.5, 0.25])
    parser.add_argument("--temp", type=float, nargs="+", default=[0, 0.8])
    parser.add_argument("--length", nargs="+", default=["auto", "1"])
    parser.add_argument("--drive", default="", help="a modelled drive's rate, as 400MB/s")
    parser.add_argument("-n", "--tokens", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pieces", type=int, default=0, help="prompts to cut from the file")
    args = parser.parse_args()
    drafters = ["ngram", "mtp", *args.draft]
    variants = [("none", "auto")] + [(d, length) for d in drafters for length in args.length]
    bounds = {drafter: memory_bounds(args, drafter) for drafter in ["none", *drafters]}
    for temperature in args.temp:
        for share in args.share:
            measure_pieces(args, share, temperature, variants, bounds)


if __name__ == "__main__":
    main()
