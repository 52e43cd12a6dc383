#!/usr/bin/env python3
# Measures what a flag is worth: variants of one run, interleaved, so that a claim is a ratio.
"""Variants of one `stoker run` in interleaved rounds: medians, and ratios to the first variant.

Each --variant is a name and the flags that make it, "off: --prefetch none". Every round runs each
variant once, in an order that turns from round to round. With --limit all run inside a memory
cgroup of that size with the page cache dropped before each run (needs root).

    bench/variants.py --model M.gguf --limit 3G -n 200 --rounds 5 \\
        --variant "off: --prefetch none" --variant "lookahead: --prefetch lookahead"

waiting is the share of the decode's time in which nothing could be computed until an expert came
from the drive; the ratio of waiting is of seconds a token, so 0.7 means 30 % of it removed.
"""

import argparse
import json
import os
import pathlib
import shlex
import statistics
import sys

from compare import ROOT, MemoryLimit, parse_bytes, run


def parse_variant(text):
    name, colon, flags = text.partition(":")
    if not colon:
        sys.exit(f"variants.py: '{text}' is not a variant; write for example "
                 "'off: --prefetch none'")
    return name.strip(), shlex.split(flags)


def one_run(args, flags, limit):
    prompt = ["-f", args.file] if args.file else \
        ["--ids", " ".join(str(1 + 7919 * i % 250) for i in range(args.prompt))]
    command = [args.stoker, "run", "-m", args.model, *prompt, "-n", str(args.tokens), "--threads",
               str(args.threads), "--temp", str(args.temp), "--seed", "1", "--json", *args.common,
               *flags]
    text, wall, _ = run(command, limit, args.limit is not None)
    records = [json.loads(line) for line in text.splitlines() if line.startswith('{"type"')]
    summary, decode = records[-1], records[-1]["decode"]
    tokens = max(1, decode["tokens"])
    return {
        "tokens_per_second": decode["tokens_per_second"],
        "wait_ms_per_token": decode["causes"]["wait_drive"] / 1e6 / tokens,
        "waiting": decode["causes"]["wait_drive"] / max(1, decode["wall_ns"]),
        "hit_rate": decode["hit_rate"],
        "read_mb_per_token": decode["read_bytes"] / 1e6 / tokens,
        "p50_ms": summary["gaps"]["p50_ns"] / 1e6,
        "p99_ms": summary["gaps"]["p99_ns"] / 1e6,
        "text": "".join(r.get("text", "") for r in records[:-1]),
        "wall_s": wall,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--variant", action="append", required=True)
    parser.add_argument("--stoker", default=str(ROOT / "build/release/stoker"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("-f", "--file", help="the prompt; else --prompt made-up ids")
    parser.add_argument("-p", "--prompt", type=int, default=8)
    parser.add_argument("-n", "--tokens", type=int, default=128)
    parser.add_argument("--temp", type=float, default=0)
    parser.add_argument("--limit", help="memory of the cgroup, for example 3G")
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("common", nargs="*", help="after --: flags of every variant")
    args = parser.parse_args()

    variants = [parse_variant(text) for text in args.variant]
    limit = MemoryLimit(parse_bytes(args.limit) if args.limit else None)
    rounds = {name: [] for name, _ in variants}
    try:
        for index in range(args.rounds):
            turn = index % len(variants)
            for name, flags in variants[turn:] + variants[:turn]:
                rounds[name].append(one_run(args, flags, limit))
                row = {k: v for k, v in rounds[name][-1].items() if k != "text"}
                print(f"round {index + 1} {name}: {row}", file=sys.stderr)
    finally:
        limit.close()

    texts = {row.pop("text") for rows in rounds.values() for row in rows}
    keys = list(rounds[variants[0][0]][0])
    medians = {name: {key: statistics.median(row[key] for row in rows) for key in keys}
               for name, rows in rounds.items()}
    first = variants[0][0]
    print("| variant | tokens/s | of first | waiting ms/token | of first | hit rate | MB/token |"
          " p50 ms | p99 ms |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, m in medians.items():
        # Ratios round by round, so that what a busy machine did to a round cancels out.
        speed = statistics.median(a["tokens_per_second"] / b["tokens_per_second"]
                                  for a, b in zip(rounds[name], rounds[first]))
        waits = [a["wait_ms_per_token"] / b["wait_ms_per_token"]
                 for a, b in zip(rounds[name], rounds[first]) if b["wait_ms_per_token"] > 0]
        wait = f"{statistics.median(waits):.2f}" if waits else ""
        m["speed_ratio"] = speed
        print(f"| {name} | {m['tokens_per_second']:.2f} | {speed:.3f} "
              f"| {m['wait_ms_per_token']:.2f} | {wait} | {m['hit_rate']:.3f} "
              f"| {m['read_mb_per_token']:.1f} | {m['p50_ms']:.1f} | {m['p99_ms']:.1f} |")
    if len(texts) != 1:
        sys.exit("variants.py: the variants did not all give the same text")
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(
            {"model": os.path.basename(args.model), "limit": args.limit, "tokens": args.tokens,
             "common": args.common, "variants": dict(variants), "medians": medians,
             "rounds": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
