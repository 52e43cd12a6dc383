# stoker run: what comes out, in which form, and how it stops.
import json
import signal
import unittest

from stoker_process import MODELLED, SMALL, CliTest

PROMPT = ["-p", "It was a cold evening"]
GREEDY = ["--temp", "0"]


class RunTest(CliTest):
    def test_records_carry_the_text_that_streams(self):
        for sampling in (GREEDY, ["--temp", "0.9", "--seed", "5"]):
            text = self.ok("run", *SMALL, *PROMPT, "-n", "24", *sampling)
            records = self.records("run", *SMALL, *PROMPT, "-n", "24", *sampling, "--json")
            joined = "".join(r["text"] for r in records if r["type"] == "token")
            self.assertEqual(joined, text.decode())

    def test_records_are_complete(self):
        *tokens, summary = self.records("run", *SMALL, *PROMPT, "-n", "8", *GREEDY, "--json")
        self.assertEqual([t["index"] for t in tokens], list(range(8)))
        for token in tokens:
            self.assertEqual(token["type"], "token")
            self.assertEqual(token["prompt"], 0)
            self.assertEqual(sum(token["causes"].values()), token["step_ns"])
        times = [t["time_ns"] for t in tokens]
        self.assertEqual(times, sorted(times))
        self.assertEqual(tokens[-1]["finish"], "length")
        self.assertEqual(summary["type"], "summary")
        self.assertEqual(summary["generated_tokens"], 8)
        self.assertEqual(summary["finishes"], ["length"])
        phases = summary["prompt"], summary["decode"], summary["all"]
        for phase in phases:
            self.assertEqual(sum(phase["causes"].values()), phase["wall_ns"])
            self.assertAlmostEqual(phase["system_share"], phase["system_ns"] / phase["wall_ns"])
        self.assertGreater(summary["all"]["misses"], 0)
        self.assertGreater(summary["all"]["read_bytes"], 0)
        self.assertEqual(summary["slowest"]["wall_ns"], summary["gaps"]["max_ns"])

    def test_a_device_does_not_show_in_the_text_and_is_told_of(self):
        run = ["run", *SMALL, "--ids", "5 6 7", "-n", "4", *GREEDY]
        text = self.ok(*run)
        result = self.stoker(*run, *MODELLED, "--vram", "auto")
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        self.assertEqual(result.stdout, text)
        for word in (b"memory plan of the modelled device", b"device: modelled GPU", b"links: ",
                     b"copied in"):
            self.assertIn(word, result.stderr)

    def test_records_tell_what_the_device_did(self):
        run = ["run", *SMALL, "--ids", "5 6 7", "-n", "4", *GREEDY, "--json"]
        self.assertIsNone(self.records(*run)[-1]["device"])
        *tokens, summary = self.records(*run, *MODELLED, "--vram", "auto")
        device, everything = summary["device"], summary["all"]
        self.assertEqual(device["name"], "modelled GPU")
        self.assertGreater(device["vram_experts"], 0)
        for rates in (device["links"], device["links_at_end"]):
            for name in ("host", "copy_in", "copy_out", "host_beside_copy", "copy_beside_host"):
                self.assertGreater(rates[name], 0)
        self.assertEqual(everything["host_experts"] + everything["device_experts"],
                         everything["hits"] + everything["misses"])
        self.assertLessEqual(everything["vram_hits"], everything["hits"])
        self.assertGreater(everything["copied_in_bytes"], 0)
        self.assertGreater(everything["causes"]["wait_device"], 0)
        self.assertEqual(sum(t["vram_hits"] for t in tokens), everything["vram_hits"])

    def test_same_seed_gives_the_same_text_and_another_seed_another(self):
        def text(seed):
            return self.ok("run", *SMALL, *PROMPT, "-n", "32", "--temp", "1", "--seed", seed)

        self.assertEqual(text(1), text(1))
        self.assertNotEqual(text(1), text(2))

    def test_prompt_is_the_same_from_flag_file_and_stdin(self):
        words = "A prompt with\na second line"
        expected = self.ok("run", *SMALL, *GREEDY, "-n", "8", "-p", words)
        path = self.file("prompt.txt", words.encode())
        self.assertEqual(self.ok("run", *SMALL, *GREEDY, "-n", "8", "-f", path), expected)
        self.assertEqual(self.ok("run", *SMALL, *GREEDY, "-n", "8", stdin=words.encode()), expected)

    def test_prompt_is_the_same_as_text_and_as_ids(self):
        ids = self.ok("tokenize", *SMALL[:2], stdin=b"Once upon a time").decode()
        self.assertEqual(self.ok("run", *SMALL, *GREEDY, "-n", "8", "--ids", ids),
                         self.ok("run", *SMALL, *GREEDY, "-n", "8", "-p", "Once upon a time"))

    def test_prompts_that_look_like_syntax_are_text(self):
        for prompt in ("{}", "[a, b]", "--", "-5", "a=b", "%%"):
            with self.subTest(prompt=prompt):
                self.assertEqual(
                    self.ok("run", *SMALL, *GREEDY, "-n", "4", "-p", prompt),
                    self.ok("run", *SMALL, *GREEDY, "-n", "4", stdin=prompt.encode()))

    def test_several_prompts_give_each_the_text_it_gives_alone(self):
        prompts = ["It was a cold evening", "She said", "The ship"]
        alone = [self.ok("run", *SMALL, *GREEDY, "-n", "10", "-p", p).decode() for p in prompts]
        flags = [flag for p in prompts for flag in ("-p", p)]
        records = self.records("run", *SMALL, *GREEDY, "-n", "10", *flags, "--json")
        for i, expected in enumerate(alone):
            together = "".join(r["text"] for r in records if r.get("prompt") == i)
            self.assertEqual(together, expected)
        text = self.ok("run", *SMALL, *GREEDY, "-n", "10", *flags).decode()
        position = 0
        for i, expected in enumerate(alone):
            position = text.index(f"=== prompt {i + 1} ===\n{expected}", position)

    def test_stop_text_ends_generation_before_it(self):
        whole = self.ok("run", *SMALL, *GREEDY, *PROMPT, "-n", "40").decode()
        stop = whole[20:24]
        cut = self.ok("run", *SMALL, *GREEDY, *PROMPT, "-n", "40", "--stop", stop).decode()
        self.assertEqual(cut, whole[:whole.index(stop)])

    def test_full_context_is_said(self):
        result = self.stoker("run", *SMALL, *GREEDY, *PROMPT, "-n", "-1", "--ctx", "32")
        self.assertEqual(result.returncode, 0)
        self.assertIn(b"--ctx", result.stderr)

    def test_last_of_a_repeated_flag_counts(self):
        self.assertEqual(self.ok("run", *SMALL, *GREEDY, *PROMPT, "-n", "30", "-n", "5"),
                         self.ok("run", *SMALL, *GREEDY, *PROMPT, "-n", "5"))

    def test_summary_tells_where_time_went(self):
        result = self.stoker("run", *SMALL, *GREEDY, *PROMPT, "-n", "8")
        for word in (b"memory plan", b"tokens/s", b"hit rate", b"read", b"p50", b"p99", b"slowest",
                     b"expert_compute"):
            self.assertIn(word, result.stderr)

    def test_quiet_says_nothing(self):
        result = self.stoker("run", *SMALL, *GREEDY, *PROMPT, "-n", "4", "--quiet")
        self.assertEqual((result.returncode, result.stderr), (0, b""))

    def test_interrupt_ends_after_the_step_with_a_summary(self):
        process = self.start("run", *SMALL, *PROMPT, "-n", "-1", "--ctx", "2048", "--json")
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, message = process.communicate(timeout=600)
        self.assertEqual(process.returncode, 130, message.decode())
        records = [json.loads(line) for line in (first + rest).splitlines()]
        self.assertEqual(records[-1]["type"], "summary")
        self.assertEqual(records[-1]["finishes"], ["cancelled"])

    def test_reader_that_leaves_ends_the_run_quietly(self):
        process = self.start("run", *SMALL, *PROMPT, "-n", "-1", "--ctx", "2048", "--quiet")
        process.stdout.read(1)
        process.stdout.close()
        self.assertEqual(process.wait(timeout=600), 0)
        with process.stderr as stream:
            self.assertEqual(stream.read(), b"")

    def test_flags_win_over_the_config_file(self):
        model = f'model = "{SMALL[1]}"\nram = "min"\nctx = 256\nchunk = 16\nthreads = 1\n'
        path = self.file("c.toml", (model + 'prompt = "The ship"\ntemp = 0\ntokens = 6\n').encode())
        from_file = self.ok("run", "--config", path)
        from_flags = self.ok("run", *SMALL, *GREEDY, "-p", "The ship", "-n", "6")
        self.assertEqual(from_file, from_flags)
        longer = self.ok("run", "--config", path, "-n", "12")
        self.assertTrue(longer.startswith(from_file))
        self.assertGreater(len(longer), len(from_file))

    def test_config_keys_of_other_commands_are_noted(self):
        path = self.file("c.toml", b"temp = 0\n")
        result = self.stoker("inspect", SMALL[1], "--config", path)
        self.assertEqual(result.returncode, 0)
        self.assertIn(b"'temp' is not used", result.stderr)


if __name__ == "__main__":
    unittest.main()
