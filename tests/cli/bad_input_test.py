# Bad input of every kind: a clear message, the right exit status, never a crash.
import os
import subprocess
import unittest

from stoker_process import (BINARY, CONTEXT_MAX, MODEL, MODELLED, SMALL, VOCABULARY, CliTest, gguf,
                            without_huge_pages, without_io_uring, without_locked_memory)

USAGE, MODEL_FILE, MEMORY = 2, 3, 4


class UsageTest(CliTest):
    def test_no_command_is_a_usage_error(self):
        self.refuses(USAGE, ["--help"])

    def test_unknown_command_names_the_nearest(self):
        self.refuses(USAGE, ["'inspct'", "stoker inspect"], "inspct")

    def test_unknown_flag_names_the_nearest(self):
        self.refuses(USAGE, ["--tmp", "--temp"], "run", "--tmp", "1")

    def test_flag_without_a_value_is_refused(self):
        self.refuses(USAGE, ["--threads"], "run", "-m", MODEL, "--threads")

    def test_value_that_is_no_number_is_refused(self):
        self.refuses(USAGE, ["--threads", "many"], "run", "-m", MODEL, "--threads", "many")

    def test_commands_that_generate_nothing_take_no_drafts(self):
        for command in ("perplexity", "logits"):
            with self.subTest(command=command):
                self.refuses(USAGE, ["draft"], command, "-m", MODEL, "--draft", "ngram")

    def test_values_out_of_range_are_refused(self):
        for flags, word in ((["--threads", "-1"], "threads"), (["--chunk", "-5"], "chunk"),
                            (["--policy", "fifo"], "policy"), (["--isa", "sse9"], "isa"),
                            (["--io", "mmap"], "io"), (["--kv", "q8"], "kv"),
                            (["--ram", "lots"], "ram"), (["--temp", "-1"], "temperature"),
                            (["--device", "tpu"], "device"), (["--place", "here"], "place"),
                            (["--gpu", "-2"], "gpu"),
                            ([*MODELLED, "--vram", "lots"], "vram"),
                            ([*MODELLED, "--modelled-memory", "0"], "modelled-memory"),
                            ([*MODELLED, "--modelled-link", "fast"], "modelled-link"),
                            ([*MODELLED, "--modelled-bandwidth", "0"], "modelled-bandwidth"),
                            (["--modelled-drive", "slow"], "modelled-drive"),
                            (["--modelled-drive-latency-us", "9"], "without modelled_drive"),
                            (["--top-p", "2"], "top_p"), (["--temp", "nan"], "temperature"),
                            (["-n", "0"], "--tokens")):
            with self.subTest(flags=flags):
                self.refuses(USAGE, [word], "run", "-m", MODEL, "-p", "x", *flags)

    def test_what_the_device_would_not_use_is_refused(self):
        for flags, word in ((["--device", "cpu", "--vram", "1G"], "vram"),
                            (["--device", "cpu", "--place", "gpu"], "place"),
                            (["--device", "cpu", "--gpu", "0"], "gpu"),
                            (["--device", "modelled", "--gpu", "0"], "gpu"),
                            (["--device", "cpu", "--modelled-memory", "1G"], "modelled")):
            with self.subTest(flags=flags):
                self.refuses(USAGE, [word, "device is", "try:"], "run", "-m", MODEL, "-p", "x",
                             *flags)

    def test_missing_model_flag_is_said(self):
        self.refuses(USAGE, ["no model"], "run", "-p", "x")

    def test_unquoted_prompt_is_explained(self):
        self.refuses(USAGE, ["quoted"], "run", "-m", MODEL, "-p", "two", "words")

    def test_prompt_file_that_is_missing(self):
        self.refuses(USAGE, ["nowhere.txt"], "run", "-m", MODEL, "-f", "nowhere.txt")

    def test_id_that_is_no_number(self):
        self.refuses(USAGE, ["'x'"], "run", *SMALL, "--ids", "1 x 3")

    def test_id_outside_the_vocabulary(self):
        for identity in (-1, VOCABULARY, 1 << 30):
            with self.subTest(id=identity):
                self.refuses(USAGE, [str(identity)], "run", *SMALL, "--ids", f"1 {identity}")
        self.refuses(USAGE, [str(VOCABULARY)], "detokenize", "-m", MODEL,
                     stdin=str(VOCABULARY).encode())

    def test_empty_prompt_of_ids(self):
        self.refuses(USAGE, ["prompt"], "run", *SMALL, "--ids", "")

    def test_prompt_longer_than_the_context(self):
        ids = " ".join(["5"] * 300)
        self.refuses(USAGE, ["300", "256"], "run", *SMALL, "--ids", ids)

    def test_text_shorter_than_a_window(self):
        self.refuses(USAGE, ["window"], "perplexity", "-m", MODEL, stdin=b"Too short.")


class ConfigTest(CliTest):
    def config(self, text):
        return self.file("stoker.toml", text.encode())

    def test_unknown_key_names_line_and_nearest_key(self):
        path = self.config('ram = "min"\nthread = 2\n')
        self.refuses(USAGE, [f"{path}:2", "'thread'", "threads"], "run", "--config", path)

    def test_value_of_the_wrong_type_names_the_line(self):
        for line in ('threads = "two"', "threads = true", "quiet = 1", "policy = 3.5",
                     "threads = [1, 2]"):
            with self.subTest(line=line):
                path = self.config("# A comment.\n\n" + line)
                self.refuses(USAGE, [f"{path}:3"], "run", "--config", path)

    def test_value_out_of_range_names_the_line(self):
        path = self.config('model = "x"\npolicy = "fifo"\n')
        self.refuses(USAGE, [f"{path}:2", "lru"], "run", "--config", path)

    def test_broken_toml_names_the_line(self):
        path = self.config("threads = 1\nram = = 3\n")
        self.refuses(USAGE, [f"{path}:2"], "run", "--config", path)

    def test_device_keys_are_checked_together_whatever_their_order(self):
        path = self.config(f'model = "{MODEL}"\nram = "min"\nvram = "1G"\ndevice = "cpu"\n')
        self.refuses(USAGE, [f"{path}:3", "vram"], "run", "--config", path, "-p", "x")
        path = self.config(f'modelled-memory = "1G"\nmodel = "{MODEL}"\ndevice = "modelled"\n')
        self.ok("inspect", "--config", path)

    def test_missing_config_file(self):
        self.refuses(USAGE, ["nowhere.toml"], "run", "--config", "nowhere.toml")


class ModelFileTest(CliTest):
    def refuses_model(self, words, path):
        for command in (["run", "-p", "x"], ["inspect"], ["tokenize"]):
            with self.subTest(command=command[0]):
                self.refuses(MODEL_FILE, words, *command, "-m", path)

    def test_missing_file(self):
        self.refuses_model(["nowhere.gguf"], "nowhere.gguf")

    def test_folder(self):
        self.refuses_model([str(self.folder)], self.folder)

    def test_unreadable_file(self):
        if os.geteuid() == 0:
            self.skipTest("root may read everything")
        path = self.file("secret.gguf", MODEL.read_bytes())
        path.chmod(0)
        self.refuses_model([str(path)], path)

    def test_empty_file(self):
        self.refuses_model(["empty.gguf"], self.file("empty.gguf", b""))

    def test_something_else(self):
        self.refuses_model(["page.gguf"], self.file("page.gguf", b"<!DOCTYPE html>" + b" " * 5000))

    def test_truncated_at_every_kind_of_place(self):
        data = MODEL.read_bytes()
        for size in (3, 20, 1000, 100_000, len(data) // 2, len(data) - 1):
            with self.subTest(bytes=size):
                self.refuses_model(["cut.gguf"], self.file("cut.gguf", data[:size]))

    def test_corrupt_counts(self):
        data = bytearray(MODEL.read_bytes())
        data[8:16] = b"\xff" * 8  # tensor count
        self.refuses_model(["corrupt.gguf"], self.file("corrupt.gguf", bytes(data)))

    def test_unknown_version(self):
        data = bytearray(MODEL.read_bytes())
        data[4] = 9
        self.refuses_model(["version"], self.file("new.gguf", bytes(data)))

    def test_unsupported_architecture_lists_the_known_ones(self):
        data = MODEL.read_bytes().replace(b"deepseek2", b"deepseek9")
        path = self.file("other.gguf", data)
        self.refuses(MODEL_FILE, ["deepseek9", "qwen3moe"], "run", "-m", path, "-p", "x")

    def test_split_set_with_a_part_missing_names_the_part(self):
        keys = {"general.architecture": "deepseek2", "split.no": 0, "split.count": 2,
                "split.tensors.count": 4}
        path = self.file("m-00001-of-00002.gguf", gguf(keys))
        self.refuses_model(["m-00002-of-00002.gguf"], path)

    def test_file_that_shrinks_mid_run(self):
        path = self.file("model.gguf", MODEL.read_bytes())
        process = self.start("run", "-m", path, "--ram", "min", "--ctx", "2048", "--chunk", "16",
                             "-p", "The", "-n", "-1", "--temp", "1", "--seed", "3")
        process.stdout.read(1)
        os.truncate(path, MODEL.stat().st_size // 4)
        _, message = process.communicate(timeout=600)
        self.assertEqual(process.returncode, MODEL_FILE, message.decode())
        self.assertIn(b"stoker: error: ", message)
        self.assertIn(b"model.gguf", message)


class MemoryTest(CliTest):
    def test_budget_below_the_minimum_says_what_would_do(self):
        small = ["-m", MODEL, "--ctx", "256", "--chunk", "16", "-p", "x", "-n", "2"]
        message = self.refuses(MEMORY, ["minimum", "--ram"], "run", *small, "--ram", "1M")
        enough = message.split("--ram ")[1].split()[0]
        self.ok("run", *small, "--ram", enough)

    def test_context_above_the_models_own_is_noted(self):
        result = self.stoker("run", "-m", MODEL, "-p", "x", "-n", "1", "--ctx", CONTEXT_MAX + 1)
        self.assertEqual(result.returncode, 0)
        self.assertIn(f"note: the context of {CONTEXT_MAX + 1}", result.stderr.decode())

    def test_context_that_does_not_fit_names_one_that_does(self):
        minimum = self.minimum(256)
        message = self.refuses(MEMORY, ["--ctx"], "run", "-m", MODEL, "--chunk", "16", "-p", "x",
                               "--ctx", CONTEXT_MAX, "--ram", minimum + (512 << 10))
        context = int(message.split("--ctx ")[1].split()[0])
        self.assertGreaterEqual(context, 256)
        self.ok("run", "-m", MODEL, "--chunk", "16", "-p", "x", "-n", "1", "--ctx", context,
                "--ram", minimum + (512 << 10))

    def test_vram_below_the_minimum_says_what_would_do(self):
        small = ["-m", MODEL, "--ctx", "256", "--chunk", "16", *MODELLED]
        message = self.refuses(MEMORY, ["VRAM", "minimum", "resident weights", "--device cpu"],
                               "run", *small, "-p", "x", "--vram", "1M")
        enough = message.split("--vram ")[1].split()[0]
        self.ok("inspect", "--plan", *small, "--vram", enough)

    def test_more_vram_than_there_is(self):
        flags = [*SMALL, "--device", "modelled", "--modelled-memory"]
        (plan,) = self.records("inspect", "--plan", "--json", *flags, "1G")
        least, full = (plan["device"][key] for key in ("minimum_bytes", "full_bytes"))
        left = (least + full) // 2
        self.refuses(MEMORY, ["has left", "--vram auto", f"--vram {left}"], "inspect", "--plan",
                     *flags, left, "--vram", full)
        self.ok("inspect", "--plan", *flags, left, "--vram", left)

    def test_device_without_room_for_an_expert_it_is_to_compute(self):
        message = self.refuses(USAGE, ["--place auto"], "inspect", "--plan", *SMALL, *MODELLED,
                               "--vram", "min", "--place", "gpu")
        enough = message.split("--vram ")[1].split()[0]
        self.ok("inspect", "--plan", *SMALL, *MODELLED, "--vram", enough, "--place", "gpu")

    def minimum(self, context):
        return self.records("inspect", MODEL, "--ctx", context, "--chunk", "16",
                            "--json")[0]["memory"]["minimum_bytes"]


class SystemTest(CliTest):
    """What the system refuses costs speed, is said, and changes no token."""

    GREEDY = ["run", *SMALL, "-p", "The old house", "--temp", "0", "-n", "12"]

    def expect_same_text(self, preexec, words, *flags):
        plain = self.ok(*self.GREEDY)
        result = self.stoker(*self.GREEDY, *flags, preexec_fn=preexec)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        self.assertEqual(result.stdout, plain)
        for word in words:
            self.assertIn(word, result.stderr.decode())

    def test_without_io_uring(self):
        self.expect_same_text(without_io_uring, ["note: ", "io_uring"])

    def test_io_uring_asked_for_and_refused_is_an_error(self):
        self.refuses(1, ["io_uring"], *self.GREEDY, "--io", "uring", preexec_fn=without_io_uring)

    def test_gpu_asked_for_where_there_is_none(self):
        if self.stoker(*self.GREEDY, "--device", "cuda").returncode == 0:
            self.skipTest("there is a GPU")
        self.refuses(USAGE, ["--device cpu"], *self.GREEDY, "--device", "cuda")
        self.refuses(USAGE, ["vram", "no GPU"], *self.GREEDY, "--vram", "1G")
        self.refuses(USAGE, ["place", "no GPU"], *self.GREEDY, "--place", "cpu")

    def test_low_memlock_limit(self):
        self.expect_same_text(without_locked_memory, ["memlock"])

    def test_without_huge_pages(self):
        # With room for experts that fills several huge pages.
        self.expect_same_text(without_huge_pages, ["note: ", "huge pages"], "--ram", "128M")

    def test_full_disk_behind_stdout(self):
        with open("/dev/full", "wb") as full:
            result = subprocess.run([BINARY, *self.GREEDY], stdin=subprocess.DEVNULL, stdout=full,
                                    stderr=subprocess.PIPE, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"cannot write the output", result.stderr)


if __name__ == "__main__":
    unittest.main()
