# Runs the real program for tests and makes the damaged model files that they feed it.
import ctypes
import json
import os
import pathlib
import resource
import struct
import subprocess
import tempfile
import unittest

SOURCE_DIR = pathlib.Path(os.environ.get("STOKER_SOURCE_DIR",
                                         pathlib.Path(__file__).resolve().parents[2]))
BINARY = os.environ["STOKER_BINARY"]
SHARED_DIR = pathlib.Path(os.environ.get("STOKER_SHARED_DIR", SOURCE_DIR.parent / "shared"))
# What the tests are told is not for the program, which looks at variables of that name.
for name in [name for name in os.environ if name.startswith("STOKER_")]:
    del os.environ[name]
MODEL = SOURCE_DIR / "models" / "moe-27m.q4_k.gguf"
VOCABULARY = 4096
CONTEXT_MAX = 2048
TIMEOUT_S = 600  # a hang ends the test; nothing is timed

# A small, quick run that misses often.
SMALL = ["-m", str(MODEL), "--ram", "min", "--ctx", "256", "--chunk", "16", "--threads", "1"]

# The same on a GPU that is not there, with room for it.
MODELLED = ["--device", "modelled", "--modelled-memory", "1G"]


class CliTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def stoker(self, *arguments, stdin=b"", **options):
        """Runs to the end; stdout and stderr are bytes."""
        return subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True,
                              timeout=TIMEOUT_S, **options)

    def start(self, *arguments, **options):
        """Starts without waiting; stdout and stderr are pipes."""
        return subprocess.Popen([BINARY, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def ok(self, *arguments, **options):
        """stdout of a run that must succeed."""
        result = self.stoker(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr.decode(errors="replace"))
        return result.stdout

    def records(self, *arguments, **options):
        """The JSON lines of a run that must succeed."""
        return [json.loads(line) for line in self.ok(*arguments, **options).splitlines()]

    def refuses(self, status, words, *arguments, **options):
        """A run that must end with this status and one message that holds each of the words."""
        result = self.stoker(*arguments, **options)
        message = result.stderr.decode(errors="replace")
        self.assertEqual(result.returncode, status, message)
        self.assertEqual(message.count("stoker: error: "), 1, message)
        for word in words:
            self.assertIn(word, message)
        return message

    def file(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path


def gguf(keys):
    """A GGUF of no tensors: str values as text, int ones as u16 (split.tensors.count as i32)."""
    def text(value):
        data = value.encode()
        return struct.pack("<Q", len(data)) + data

    out = b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys))
    for key, value in keys.items():
        out += text(key)
        if isinstance(value, str):
            out += struct.pack("<I", 8) + text(value)
        elif key == "split.tensors.count":
            out += struct.pack("<Ii", 5, value)
        else:
            out += struct.pack("<IH", 2, value)
    return out + b"\0" * (-len(out) % 32)


# What a test takes from a process before it starts (preexec_fn).

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_THP_DISABLE = 38, 22, 24, 41
CAP_IPC_LOCK = 14


def prctl(*arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    longs = [a if isinstance(a, ctypes._Pointer) else ctypes.c_ulong(a) for a in arguments]
    if libc.prctl(*longs, *[ctypes.c_ulong(0)] * (5 - len(longs))) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def without_locked_memory():
    """A memlock limit of nothing, and no right to go beyond it."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    if os.geteuid() == 0:
        prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK)


def without_huge_pages():
    prctl(PR_SET_THP_DISABLE, 1)


class SockFilter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8),
                ("k", ctypes.c_uint32)]


class SockProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(SockFilter))]


def without_io_uring():
    """io_uring_setup fails with EPERM, as under a container's seccomp profile."""
    load_number, jump_equal, give = 0x20, 0x15, 0x06
    io_uring_setup, error_eperm, allow = 425, 0x00050001, 0x7FFF0000
    instructions = (SockFilter * 4)(SockFilter(load_number, 0, 0, 0),
                                    SockFilter(jump_equal, 0, 1, io_uring_setup),
                                    SockFilter(give, 0, 0, error_eperm),
                                    SockFilter(give, 0, 0, allow))
    program = SockProgram(4, instructions)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, 2, ctypes.pointer(program))
