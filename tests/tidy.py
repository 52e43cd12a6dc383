#!/usr/bin/env python3
# The tree checks itself: layers, sizes, orphans, untested rows, leftovers. Run by ctest and CI.
"""Usage: tidy.py [--headers] [--format] [ROOT]

Prints one line a finding, "path:line: rule: what", and exits 1 when there are any. --headers also
compiles each header alone; --format also runs clang-format. A finding is waived by a comment on its
line or the line before: `tidy: allow(rule) reason`.
"""
import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import subprocess
import sys

ROOMS = ("base", "device", "io", "kernels", "tokenizer", "cache", "prefetch", "model",
         "speculative", "runtime", "cli")

# What each room may include beside itself and base: rooms, or single headers of a room.
LAYERS = {
    "base": (),
    "device": (),
    "io": (),
    "kernels": ("device",),
    "tokenizer": ("io",),
    "cache": ("device", "io"),
    "prefetch": ("cache",),
    "model": ("kernels", "io", "device", "cache/expert_provider.h"),
    "speculative": ("model", "kernels"),
    "runtime": ("device", "io", "kernels", "tokenizer", "cache", "prefetch", "model",
                "speculative"),
    # Beside the runtime: the headers whose types the runtime's own signatures are made of, the
    # file that logits writes, and what bench needs to measure the machine.
    "cli": ("runtime", "tokenizer/tokenizer.h", "model/model.h", "model/family.h", "io/gguf.h",
            "io/safetensors.h", "io/block_reader.h", "device/buffer.h", "device/topology.h"),
}

SOURCE_SUFFIXES = {".h", ".cc", ".cu", ".cuh"}
TEXT_SUFFIXES = SOURCE_SUFFIXES | {".py", ".sh", ".md", ".txt", ".json", ".toml"}
SKIPPED_FOLDERS = {"build", ".git", ".cache", "__pycache__", "golden", "corpus"}

COLUMNS_MAX = 100
FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
KERNEL_LINES_MAX = 120

CUDA_FORBIDDEN = re.compile(r'#include\s*[<"](absl|tbb|oneapi|gtest|gmock)/')
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
MARKER = re.compile(r"\b(TODO(?!\(\w+)|FIXME|XXX)\b")  # tidy: allow(marker) the pattern itself
WAIVER = re.compile(r"tidy: allow\(([\w-]+)\)\s+\S")

# Registries whose rows must be named in a test: the file, the pattern that finds the lines of rows,
# and the one that finds the names in them.
QUOTED = re.compile(r'"([\w.-]+)"')
FIRST_QUOTED = re.compile(r'^[^"]*"([\w.-]+)"')
WORD = re.compile(r"(\w+)")
REGISTRIES = (
    ("cache/policies/registry.cc", re.compile(r'^    \{".*$', re.M), FIRST_QUOTED),
    ("prefetch/predictors/registry.cc", re.compile(r'^    \{\.name = .*$', re.M), FIRST_QUOTED),
    ("speculative/drafters/registry.cc", re.compile(r'^    \{\.name = .*$', re.M), FIRST_QUOTED),
    ("model/families/registry.cc", re.compile(r'^    \{".*$', re.M), FIRST_QUOTED),
    ("device/devices.cc", re.compile(r'^    \{".*$', re.M), FIRST_QUOTED),
    ("kernels/backends.cc", re.compile(r'^    \{".*$', re.M), FIRST_QUOTED),
    ("kernels/formats/formats.h", re.compile(r"(?<=Formats = FormatList<)[^>]*"), WORD),
    ("tokenizer/registry.cc", re.compile(r"^    \{\.model = .*$", re.M), FIRST_QUOTED),
    ("tokenizer/pre_tokenization.cc", re.compile(r"(?<=Names\[\] = )\{[^}]*\}"), QUOTED),
    ("runtime/trace/trace_formats.cc", re.compile(r'^    \{".*$', re.M), FIRST_QUOTED),
    ("cli/commands/registry.cc", re.compile(r'^    \{".*$', re.M), FIRST_QUOTED),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    path: str
    line: int
    rule: str
    what: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.what}"


class File:
    """A text file of the tree, read once."""

    def __init__(self, root, path):
        self.path = path.relative_to(root).as_posix()
        self.text = path.read_text(encoding="utf-8", errors="replace")
        self.lines = self.text.split("\n")
        self.suffix = path.suffix
        self.room = self.path.split("/")[0]

    def waived(self, line, rule):
        """Whether a comment on this line (counted from 1) or the one before allows the rule."""
        for index in (line - 1, line - 2):
            if 0 <= index < len(self.lines):
                waiver = WAIVER.search(self.lines[index])
                if waiver and waiver.group(1) == rule:
                    return True
        return False


def read_tree(root):
    files = []
    for folder, names, entries in os.walk(root):
        names[:] = sorted(n for n in names if n not in SKIPPED_FOLDERS
                          and not n.startswith("build-"))
        for entry in sorted(entries):
            path = pathlib.Path(folder, entry)
            if path.suffix in TEXT_SUFFIXES or entry == "CMakeLists.txt":
                files.append(File(root, path))
    return files


def check_layers(file):
    if file.suffix not in SOURCE_SUFFIXES or file.room not in LAYERS:
        return
    allowed = LAYERS[file.room]
    for number, line in enumerate(file.lines, 1):
        include = INCLUDE.match(line)
        if not include:
            continue
        target = include.group(1)
        room = target.split("/")[0]
        outside = room in ("tests", "bench") or room in ROOMS
        if not outside or room in (file.room, "base") or room in allowed or target in allowed:
            continue
        yield Finding(file.path, number, "layer", f"{file.room} may not include {target}")


def check_cuda(file):
    if file.suffix not in (".cu", ".cuh"):
        return
    for number, line in enumerate(file.lines, 1):
        if CUDA_FORBIDDEN.match(line):
            yield Finding(file.path, number, "cuda", "device code includes a host-only library")


def check_lines(file):
    is_source = file.suffix in SOURCE_SUFFIXES or file.suffix in (".py", ".sh")
    for number, line in enumerate(file.lines, 1):
        if is_source and len(line) > COLUMNS_MAX:
            yield Finding(file.path, number, "columns", f"{len(line)} of at most {COLUMNS_MAX}")
        if line != line.rstrip():
            yield Finding(file.path, number, "space", "trailing space")
        if is_source and MARKER.search(line):
            yield Finding(file.path, number, "marker", "a leftover marker without an issue")
    if is_source and len(file.lines) > FILE_LINES_MAX:
        yield Finding(file.path, 1, "file-length", f"{len(file.lines)} of at most "
                      f"{FILE_LINES_MAX} lines")


def check_first_line(file):
    first = file.lines[1] if file.lines[0].startswith("#!") and len(file.lines) > 1 else (
        file.lines[0])
    if file.suffix in SOURCE_SUFFIXES and not first.startswith("// "):
        yield Finding(file.path, 1, "first-line", "must be a comment that says why the file exists")
    if file.suffix in (".py", ".sh") and not first.startswith("# "):
        yield Finding(file.path, 1, "first-line", "must be a comment that says why the file exists")


def blank_literals(text):
    """The text with comments, strings and characters blanked, newlines and length kept."""
    pattern = re.compile(
        r'R"(?P<tag>[^()\s\\]{0,16})\(.*?\)(?P=tag)"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'
        r"(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'", re.S)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


# What stands before the brace of a function body: ")" and then only qualifiers, a return type or an
# initializer list. Lambdas count towards the function that holds them.
FUNCTION_HEAD = re.compile(
    r"\)\s*(?:const|noexcept|override|final|mutable|&&?|->\s*[\w:<>,&*\s]+|\s)*"
    r"(?::\s*[^;{}]*(?:\{[^{};]*\}[^;{}]*)*)?$")
CONTROL_HEAD = re.compile(r"\b(?:if|for|while|switch|catch|else|do|return)\b[^;{}]*$")


def functions(text):
    """Yields (first line, last line) of every outermost function body, counted from 1."""
    clean = re.sub(r"^[ \t]*#[^\n]*(?:\\\n[^\n]*)*", lambda m: re.sub(r"[^\n]", " ", m.group()),
                   blank_literals(text), flags=re.M)
    depth, body_depth, head_start, body_line = 0, None, 0, 0
    for position, char in enumerate(clean):
        if char == "{":
            head = clean[head_start:position]
            # A brace right after a name initializes a member; bodies have a space before theirs.
            initializer = re.search(r"[\w>]$", head)
            if (body_depth is None and not initializer and FUNCTION_HEAD.search(head.rstrip())
                    and not CONTROL_HEAD.search(head.rstrip())):
                body_depth = depth
                begin = head_start + re.match(r"\s*(?:\w+:(?!:)\s*)?", head).end()
                body_line = clean.count("\n", 0, begin) + 1
            depth += 1
            if body_depth is None and not initializer:
                head_start = position + 1
        elif char == "}":
            depth -= 1
            ended = body_depth == depth
            if ended:
                yield body_line, clean.count("\n", 0, position) + 1
                body_depth = None
            if ended or (body_depth is None and clean[head_start:position].count("{") == 0):
                head_start = position + 1
        elif char == ";" and body_depth is None:
            head_start = position + 1


def check_functions(file):
    if file.suffix not in SOURCE_SUFFIXES:
        return
    limit = KERNEL_LINES_MAX if file.room == "kernels" else FUNCTION_LINES_MAX
    for first, last in functions(file.text):
        if last - first + 1 > limit:
            yield Finding(file.path, first, "function-length",
                          f"{last - first + 1} of at most {limit} lines")


def is_named(relative, cmake):
    """Whether a CMakeLists.txt names a source, whole or by a foreach variable (${unit}_test.cc)."""
    if re.search(rf"(?<![\w/.$}}-]){re.escape(relative)}(?![\w.-])", cmake):
        return True
    for template in re.findall(r"(?<=[\s(])[\w/-]*\$\{\w+\}[\w/-]*\.cc", cmake):
        pattern = re.sub(r"\\\$\\\{\w+\\\}", r"([\\w-]+)", re.escape(template))
        value = re.fullmatch(pattern, relative)
        if value and re.search(rf"(?<![\w-]){re.escape(value.group(1))}(?![\w-])", cmake):
            return True
    return False


def check_build(files):
    """Every source is named in the CMakeLists.txt of its folder or of one above."""
    cmakes = {os.path.dirname(f.path): f.text for f in files if f.path.endswith("CMakeLists.txt")}
    for file in files:
        if file.suffix not in (".cc", ".cu"):
            continue
        folders = [p.as_posix() for p in pathlib.PurePosixPath(file.path).parents]
        folders = ["" if folder == "." else folder for folder in folders]
        if not any(folder in cmakes and
                   is_named(os.path.relpath(file.path, folder or "."), cmakes[folder])
                   for folder in folders):
            yield Finding(file.path, 1, "build", "is in no CMakeLists.txt")


def registry_rows(file, rows, names):
    """Yields (name, line) of every row of a registry."""
    for row in rows.finditer(file.text):
        for name in names.finditer(row.group()):
            yield name.group(1), file.text.count("\n", 0, row.start() + name.start(1)) + 1


def check_registries(files):
    """Every row of a registry is named, as a word (or as the constant kName), by some test."""
    tests = "\n".join(f.text for f in files
                      if f.room == "tests" and not f.path.startswith("tests/tidy"))
    by_path = {f.path: f for f in files}
    for path, rows, names in REGISTRIES:
        if path not in by_path:
            continue
        for name, line in registry_rows(by_path[path], rows, names):
            if not re.search(rf"(?<![\w-])k?{re.escape(name)}(?![\w-])", tests):
                yield Finding(path, line, "untested-row", f"no test names '{name}'")


def check_headers(root, files):
    """Every header compiles alone."""
    flags = ["g++", "-std=c++20", "-fsyntax-only", "-w", "-x", "c++", f"-I{root}"]
    headers = [f for f in files if f.suffix == ".h" and "tidy: allow(header)" not in f.text]

    def compile_alone(file):
        return file, subprocess.run([*flags, str(root / file.path)], capture_output=True, text=True)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, result in pool.map(compile_alone, headers):
            if result.returncode != 0:
                first = next((l for l in result.stderr.split("\n") if "error" in l), "")
                yield Finding(file.path, 1, "header", f"does not compile alone: {first}")


def check_format(root, files):
    sources = [f for f in files if f.suffix in SOURCE_SUFFIXES]

    def differs(file):
        command = ["clang-format", "--dry-run", "--Werror", str(root / file.path)]
        return file, subprocess.run(command, capture_output=True).returncode != 0

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, wrong in pool.map(differs, sources):
            if wrong:
                yield Finding(file.path, 1, "format", "differs from what clang-format makes")


def check_tree(root, headers=False, formatting=False):
    root = pathlib.Path(root).resolve()
    files = read_tree(root)
    by_path = {f.path: f for f in files}
    findings = []
    for file in files:
        for check in (check_layers, check_cuda, check_lines, check_first_line, check_functions):
            findings.extend(check(file))
    findings.extend(check_build(files))
    findings.extend(check_registries(files))
    if headers:
        findings.extend(check_headers(root, files))
    if formatting:
        findings.extend(check_format(root, files))
    return [f for f in findings if not by_path[f.path].waived(f.line, f.rule)]


def main():
    parser = argparse.ArgumentParser(description="Checks the tree against its own rules.")
    parser.add_argument("root", nargs="?", default=pathlib.Path(__file__).resolve().parents[1])
    parser.add_argument("--headers", action="store_true", help="compile each header alone")
    parser.add_argument("--format", action="store_true", help="run clang-format")
    options = parser.parse_args()
    findings = check_tree(options.root, options.headers, options.format)
    for finding in findings:
        print(finding)
    print(f"tidy: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
