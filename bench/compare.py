#!/usr/bin/env python3
# Measures Stoker beside a peer on one file, so that claims of speed are ratios from one run.
"""Interleaved rounds of Stoker and a peer on one file: medians and ratios.

The peer is llama.cpp, built elsewhere; --peer names the folder of its programs. Without --limit
both hold the model in memory (llama-bench). With --limit both run inside a memory cgroup of that
size, with the page cache dropped before each run: the peer (llama-completion) maps the file and
does not repack weights, which would need a copy of them in memory; Stoker streams experts with
--ram auto. Needs root for --limit.

system_share is Stoker's system CPU time while it decodes, by the wall time of that;
system_share_process, of either program, is over its whole run, loading included.

    bench/compare.py --model M.gguf --peer llama.cpp/build/bin --rounds 3
    bench/compare.py --model M.gguf --peer llama.cpp/build/bin --limit 3G -n 64 --peer-tokens 6
"""

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def parse_bytes(text):
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    if not match:
        sys.exit(f"compare.py: {text} is not a number of bytes; write for example 3G")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


class MemoryLimit:
    """A memory cgroup of our own, version 1 or 2; nothing when no limit is asked for."""

    def __init__(self, limit):
        self.folder = None
        if limit is None:
            return
        v1 = pathlib.Path("/sys/fs/cgroup/memory")
        base, name = (v1, "memory.limit_in_bytes") if v1.is_dir() else (v1.parent, "memory.max")
        self.folder = base / f"stoker-compare-{os.getpid()}"
        self.folder.mkdir()
        (self.folder / name).write_text(str(limit))

    def enter(self):
        if self.folder is not None:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def close(self):
        if self.folder is not None:
            self.folder.rmdir()


def drop_page_cache():
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def run(command, limit, is_cold):
    """Runs to the end; returns output, wall seconds and the child's CPU seconds."""
    if is_cold:
        drop_page_cache()
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                   preexec_fn=limit.enter)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{err.read()}")
        return out.read() + err.read(), time.monotonic() - start, usage


def fio_rate(path, block_bytes, depth, seconds):
    """Bytes per second of random direct reads, as fio sees the drive; None without fio."""
    command = ["fio", "--name=ceiling", f"--filename={path}", "--rw=randread",
               f"--bs={block_bytes}", "--direct=1", "--ioengine=libaio", f"--iodepth={depth}",
               "--readonly", "--time_based", f"--runtime={seconds}", "--output-format=json"]
    try:
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return json.loads(text[text.index("{"):])["jobs"][0]["read"]["bw_bytes"]


def peer_limited_round(args, limit):
    command = [f"{args.peer}/llama-completion", "-m", args.model, "-t", str(args.threads), "-lm",
               "mmap", "--no-repack", "-n", str(args.peer_tokens), "-p", "hello hello", "-no-cnv",
               "--no-warmup", "-c", "1024", "--temp", "0", "--perf"]
    text, wall, usage = run(command, limit, True)
    after_prompt = text.split("prompt eval")[1]
    per_token_ms = re.search(r" eval time =.*\( *([0-9.]+) ms per token", after_prompt)
    return {"decode": 1e3 / float(per_token_ms[1]), "system_share_process": usage.ru_stime / wall}


def peer_round(args, limit):
    command = [f"{args.peer}/llama-bench", "-m", args.model, "-t", str(args.threads), "-p",
               str(args.prompt), "-n", str(args.tokens), "-r", "1", "-o", "json"]
    text, wall, usage = run(command, limit, False)
    rates = {}
    for row in json.loads(text[text.index("["):text.rindex("]") + 1]):
        rates["prompt" if row["n_prompt"] > 0 else "decode"] = row["avg_ts"]
    return {**rates, "system_share_process": usage.ru_stime / wall}


def stoker_warm_round(args, limit):
    """All in memory: bench, which runs once to warm up, as the peer does."""
    command = [args.stoker, "bench", "-m", args.model, "-p", str(args.prompt), "-n",
               str(args.tokens), "-r", "1", "--threads", str(args.threads), "--ram", args.ram,
               "--ctx", str(args.prompt + args.tokens + 8), "--format", "json", *args.stoker_args]
    text, wall, usage = run(command, limit, False)
    text = text[text.index("{"):text.rindex("}") + 1]
    rows = {row["name"]: row for row in json.loads(text)["rows"]}
    return {"prompt": rows["prompt"]["tokens_per_second"],
            "decode": rows["decode"]["tokens_per_second"],
            "decode_share_of_memory": rows["decode"]["share"],
            "memory_ceiling": rows["decode"]["ceiling_bytes_per_second"],
            "system_share": rows["decode"]["system_share"],
            "system_share_process": usage.ru_stime / wall}


def stoker_round(args, limit):
    """One cold process: a prompt, then decode. Gaps and reads come from its own records."""
    ids = " ".join(str(1 + 7919 * i % 250) for i in range(max(args.prompt, 8)))
    command = [args.stoker, "run", "-m", args.model, "--ids", ids, "-n", str(args.tokens),
               "--threads", str(args.threads), "--temp", "0", "--json", "--ram", args.ram,
               "--ctx", str(max(args.prompt, 8) + args.tokens + 8), *args.stoker_args]
    text, wall, usage = run(command, limit, args.limit is not None)
    records = [json.loads(line) for line in text.splitlines() if line.startswith('{"type"')]
    summary = records[-1]
    decode = summary["decode"]
    result = {
        "prompt": summary["prompt"]["tokens_per_second"],
        "decode": decode["tokens_per_second"],
        "p50_ms": summary["gaps"]["p50_ns"] / 1e6,
        "p99_ms": summary["gaps"]["p99_ns"] / 1e6,
        "hit_rate": decode["hit_rate"],
        "read_bytes": summary["all"]["read_bytes"],
        "system_share": decode["system_share"],
        "system_share_process": usage.ru_stime / wall,
    }
    if decode["drive_busy_ns"] > 0:
        result["read_rate"] = decode["read_bytes"] / (decode["drive_busy_ns"] / 1e9)
    return result


def median(rows, key):
    values = [row[key] for row in rows if key in row]
    return statistics.median(values) if values else None


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--peer", required=True, help="folder of llama.cpp's programs")
    parser.add_argument("--peer-tokens", type=int, default=6, help="with --limit")
    parser.add_argument("--stoker", default=str(ROOT / "build/release/stoker"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--tokens", type=int, default=64)
    parser.add_argument("--limit", help="memory of the cgroup both run in, for example 3G")
    parser.add_argument("--ram", default="auto", help="Stoker's budget")
    parser.add_argument("--block", type=int, default=1 << 20, help="block size of fio's reads")
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("stoker_args", nargs="*", help="after --: further flags for stoker run")
    args = parser.parse_args()

    limit = MemoryLimit(parse_bytes(args.limit) if args.limit else None)
    peer, stoker, drive = [], [], []
    try:
        for index in range(args.rounds):
            theirs = peer_limited_round if args.limit else peer_round
            peer.append(theirs(args, limit))
            ours = stoker_round if args.limit else stoker_warm_round
            stoker.append(ours(args, limit))
            if args.limit:
                drive.append(fio_rate(args.model, args.block, 16, 5))
            print(f"round {index + 1}: peer {peer[-1]}\n         stoker {stoker[-1]}\n"
                  f"         fio {drive[-1:]}", file=sys.stderr)
    finally:
        limit.close()

    result = {"model": os.path.basename(args.model), "limit": args.limit, "threads": args.threads,
              "prompt": args.prompt, "tokens": args.tokens, "machine": platform.machine(),
              "rounds": {"peer": peer, "stoker": stoker, "fio_bytes_per_second": drive}}
    print("| rate | stoker | llama.cpp | ratio |\n| --- | ---: | ---: | ---: |")
    for key in ("prompt", "decode"):
        ours, theirs = median(stoker, key), median(peer, key)
        if ours is None or theirs is None:
            continue
        result[key] = {"stoker": ours, "peer": theirs, "ratio": ours / theirs}
        print(f"| {key}, tokens/s | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")
    for key in ("p50_ms", "p99_ms", "hit_rate", "read_rate", "system_share",
                "system_share_process", "decode_share_of_memory", "memory_ceiling"):
        if median(stoker, key) is not None:
            result[key] = median(stoker, key)
            print(f"| {key} | {median(stoker, key):.4g} | | |")
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
