# Synthetic models of every family are files that the program accepts and runs.
import json
import os
import subprocess
import tempfile
import unittest

SMALLER = ["--layers", "2", "--experts", "16", "--vocab", "1024"]
SHAPES = {  # shape: architecture it must turn out to be
    "tiny-qwen3moe": "qwen3moe",
    "qwen3moe-9g": "qwen3moe",
    "deepseek2-9g": "deepseek2",
    "olmoe": "olmoe",
    "qwen2moe": "qwen2moe",
    "mixtral-slice": "llama",
    "qwen3-dense": "qwen3",
    "qwen2-dense": "qwen2",
}


class SyntheticModelsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "model.gguf")

    def tearDown(self):
        self.folder.cleanup()

    def make(self, shape, *flags):
        command = [os.environ["STOKER_MAKE_MODEL"], shape, "-o", self.path, *flags]
        return subprocess.run(command, capture_output=True, text=True)

    def stoker(self, *arguments):
        command = [os.environ["STOKER_BINARY"], *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_every_shape_loads_as_its_family_and_generates(self):
        for shape, arch in SHAPES.items():
            with self.subTest(shape=shape):
                # Mixtral has 8 experts, and a dense shape none to change.
                has_few = arch in ("llama", "qwen3", "qwen2")
                flags = SMALLER[:2] + SMALLER[4:] if has_few else SMALLER
                made = self.make(shape, *flags)
                self.assertEqual(made.returncode, 0, made.stderr)
                seen = json.loads(self.stoker("inspect", self.path, "--json"))
                self.assertEqual(seen["architecture"]["arch"], arch)
                lines = self.stoker("run", "-m", self.path, "--ids", "1 2 3", "-n", "3", "--json",
                                    "--ctx", "64", "--quiet").splitlines()
                self.assertEqual(json.loads(lines[-1])["generated_tokens"], 3)

    def test_the_same_seed_gives_the_same_file(self):
        contents = []
        for seed in ("1", "1", "2"):
            self.assertEqual(self.make("tiny-qwen3moe", "--seed", seed).returncode, 0)
            with open(self.path, "rb") as file:
                contents.append(file.read())
        self.assertEqual(contents[0], contents[1])
        self.assertNotEqual(contents[0], contents[2])

    def test_every_format_that_is_computed_can_be_made(self):
        for dtype in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"):
            with self.subTest(format=dtype):
                made = self.make("tiny-qwen3moe", "--format", dtype, "--format-high", dtype)
                self.assertEqual(made.returncode, 0, made.stderr)
                seen = json.loads(self.stoker("inspect", self.path, "--json"))
                self.assertIn(dtype, json.dumps(seen["formats"]))

    def test_an_unknown_shape_or_format_is_named(self):
        self.assertIn("no-such", self.make("no-such").stderr)
        self.assertIn("IQ2_S", self.make("tiny-qwen3moe", "--format", "IQ2_S").stderr)


if __name__ == "__main__":
    unittest.main()
