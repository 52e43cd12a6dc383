# stoker batch from outside: what it answers, what a kill leaves, and what it refuses.
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import unittest

from stoker_process import BINARY, MODEL, SMALL, CliTest

USAGE, MODEL_FILE, INTERRUPTED = 2, 3, 130
TEXTS = ["Once upon a time", "She said", "It was a cold evening", "The ship", "A voice",
         "The old house", "In the morning", "Nobody"]


class BatchCase(CliTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out.jsonl"
        self.prompts = self.input(*[{"prompt": t, "tokens_max": 3 + i % 4}
                                    for i, t in enumerate(TEXTS)])

    def input(self, *objects, name="in.jsonl"):
        return self.file(name, "".join(json.dumps(o) + "\n" for o in objects).encode())

    def command(self, *flags, prompts=None, out=None):
        return ["batch", *SMALL, "--ram", "64M", "-i", prompts or self.prompts, "-o",
                out or self.out, "--sequences", "3", *flags]

    def batch(self, *flags, status=0, **names):
        """stderr of a run."""
        result = self.stoker(*self.command(*flags, **names))
        message = result.stderr.decode()
        self.assertEqual((result.returncode, result.stdout), (status, b""), message)
        return message

    def answers(self, out=None):
        lines = (out or self.out).read_bytes().splitlines(keepends=True)
        self.assertTrue(all(line.endswith(b"\n") for line in lines))
        return sorted(lines)


class BatchTest(BatchCase):
    def test_each_answer_is_what_a_run_with_its_seed_gives(self):
        self.batch("--seed", "11", "--temp", "1")
        answers = {a["line"]: a for a in map(json.loads, self.answers())}
        self.assertEqual(sorted(answers), list(range(1, 9)))
        self.assertEqual(len({a["seed"] for a in answers.values()}), 8)
        for line in (1, 4, 8):
            answer = answers[line]
            self.assertEqual((answer["id"], answer["finish"]), (line, "length"))
            self.assertEqual(answer["generated_tokens"], 3 + (line - 1) % 4)
            text = self.ok("run", *SMALL, "-p", TEXTS[line - 1], "--temp", "1", "-n",
                           answer["generated_tokens"], "--seed", answer["seed"])
            self.assertEqual(answer["text"], text.decode())

    def test_lines_have_their_own_ids_and_sampling(self):
        prompts = self.input({"prompt": "The ship", "id": "a", "temp": 0, "tokens": 6},
                             {"prompt": "The ship", "id": 7, "temperature": 0, "tokens_max": 6},
                             {"prompt": "The ship", "top_k": 1, "min-p": 1, "seed": 5})
        self.batch("-n", "6", prompts=prompts)
        answers = {a["id"]: a for a in map(json.loads, self.answers())}
        self.assertEqual(set(answers), {"a", 7, 3})
        self.assertEqual(len({a["text"] for a in answers.values()}), 1)
        self.assertEqual(answers[3]["seed"], 5)

    def test_neighbours_threads_and_memory_do_not_show(self):
        self.batch()
        alone = self.folder / "alone.jsonl"
        self.batch("--sequences", "1", "--threads", "2", "--ram", "min", "--chunk", "5", out=alone)
        self.assertEqual(self.answers(alone), self.answers())

    def test_prompt_that_cannot_run_is_an_answer_and_the_exit_status_says_so(self):
        prompts = self.input({"prompt": "word " * 400, "id": "long"}, {"prompt": "She said"})
        for _ in ("run", "again"):
            message = self.batch("-n", "2", prompts=prompts, status=USAGE)
            for words in ("1 of 2 prompts could not be run", "line 1: the prompt of ", "try: "):
                self.assertIn(words, message)
            answers = {a["id"]: a for a in map(json.loads, self.answers())}
            self.assertEqual(set(answers), {"long", 2})
            self.assertIn("context of 256", answers["long"]["error"])
            self.assertNotIn("text", answers["long"])

    def test_a_device_does_not_show(self):
        self.batch()
        device = self.folder / "device.jsonl"
        self.batch("--device", "modelled", "--modelled-memory", "1G", out=device)
        self.assertEqual(self.answers(device), self.answers())

    def test_drafts_do_not_show_and_are_told_of(self):
        self.batch()
        drafted = self.folder / "drafted.jsonl"
        message = self.batch("--draft", "ngram", "--draft-len", "3", out=drafted)
        self.assertIn("  drafts ", message)
        self.assertEqual(self.answers(drafted), self.answers())

    def test_finished_batch_has_nothing_to_do_and_more_prompts_may_follow(self):
        self.batch()
        before = self.answers()
        self.assertIn("8 of 8 prompts have their answers", self.batch())
        self.assertEqual(self.answers(), before)
        with open(self.prompts, "ab") as file:
            file.write(b'{"prompt": "One more"}\n')
        self.batch("-n", "128")
        self.assertEqual(len(self.answers()), 9)
        self.assertEqual(set(before) - set(self.answers()), set())

    def test_progress_and_summary_are_told(self):
        message = self.batch()
        for words in ("memory plan", "batch   25 %", "of 8 prompts", "tokens/s", "ETA",
                      "8 of 8 prompts done, 8 of them by this run", "hit rate"):
            self.assertIn(words, message)
        quiet = self.folder / "quiet.jsonl"
        self.assertEqual(self.batch("--quiet", out=quiet), "")

    def test_progress_is_one_line_on_a_terminal(self):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 60, 0, 0))
        process = subprocess.Popen([BINARY, *map(str, self.command())], stdin=subprocess.DEVNULL,
                                   stdout=theirs, stderr=theirs,
                                   env={**os.environ, "TERM": "xterm"})
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 1 << 16)
            except OSError:  # the terminal has no writer any more
                break
        os.close(ours)
        self.assertEqual(process.wait(), 0, seen)
        drawn = re.findall("\r(batch [^\x1b]*)\x1b\\[K", seen.decode())
        self.assertGreater(len(drawn), 0)
        self.assertLess(max(map(len, drawn)), 60)
        self.assertIn("\r\x1b[K", seen.decode())
        self.assertNotIn("\nbatch", seen.decode())


class KillTest(BatchCase):
    def whole(self):
        whole = self.folder / "whole.jsonl"
        self.batch(out=whole)
        return self.answers(whole)

    def wait_for(self, process, count):
        """Until the output holds so many lines, or the process has ended."""
        while process.poll() is None:
            if self.out.exists() and self.out.read_bytes().count(b"\n") >= count:
                return
            select.select([], [], [], 0.001)

    def test_killed_at_any_moment_no_line_is_lost_or_doubled(self):
        whole = self.whole()
        for count in range(9):
            with self.subTest(lines=count):
                if self.out.exists():
                    self.out.unlink()
                for more in (count, count + 2):
                    process = self.start(*self.command("--ram", "min"))  # slower
                    self.wait_for(process, more)
                    process.kill()
                    process.communicate()
                self.batch()
                self.assertEqual(self.answers(), whole)

    def test_interrupt_keeps_what_is_done_and_says_how_to_go_on(self):
        whole = self.whole()
        process = self.start(*self.command("--ram", "min"))
        self.wait_for(process, 2)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate()
        if process.returncode != 0:  # it may have ended just before
            self.assertEqual(process.returncode, INTERRUPTED, message.decode())
            self.assertIn(b"the same command again goes on from here", message)
        self.assertTrue(set(self.answers()) <= set(whole))
        self.batch()
        self.assertEqual(self.answers(), whole)

    def test_torn_line_is_redone(self):
        whole = self.whole()
        self.batch()
        data = self.out.read_bytes()
        for cut in (1, 20, len(data.splitlines()[-1]), len(data) - 3):
            self.out.write_bytes(data[:-cut])
            self.batch()
            self.assertEqual(self.answers(), whole)


class RefusalTest(BatchCase):
    def refused(self, words, *flags, **names):
        return self.refuses(USAGE, [*words, "try: "], *self.command(*flags, **names))

    def test_bad_lines_name_file_and_line(self):
        for bad, word in (('{"prompt": "x", "temprature": 1}', "temperature"),
                          ('{"prompt": "x", "temp": -1}', "temperature is -1"),
                          ('{"prompt": "x", "seed": 1.5}', "seed is 1.5"),
                          ('{"prompt": "x"', "not JSON"), ('"x"', "no JSON object"),
                          ('{"messages": []}', "chat templates"), ("{}", "prompt is missing")):
            with self.subTest(bad=bad):
                path = self.file("bad.jsonl", f'{{"prompt": "x"}}\n\n{bad}\n'.encode())
                message = self.refuses(USAGE, ["bad.jsonl:3: ", word], *self.command(prompts=path))
                self.assertNotIn("memory plan", message)
        self.assertFalse(self.out.exists())

    def test_files_that_cannot_be(self):
        self.refused(["no prompt"], prompts=self.file("empty.jsonl", b"\n"))
        self.refused(["nowhere.jsonl"], prompts=self.folder / "nowhere.jsonl")
        self.refused(["not a regular file"], prompts="/dev/null")
        self.refused(["not a regular file"], out="/dev/null")
        self.refused(["nowhere"], out=self.folder / "nowhere" / "out.jsonl")
        self.refused(["the input and the output"], out=self.prompts)
        self.refuses(USAGE, ["for the answers", "-o"], "batch", *SMALL, "-i", self.prompts)
        self.refuses(USAGE, ["for the prompts", "-i"], "batch", *SMALL, "-o", self.out)
        self.refuses(USAGE, ["no model"], "batch", "-i", self.prompts, "-o", self.out)

    def test_flags_out_of_range(self):
        for flags, word in ((["--sequences", "0"], "sequences_max is 0"), (["-n", "0"], "--tokens"),
                            (["--temp", "-1"], "temperature")):
            self.refuses(USAGE, [word], *self.command(*flags))

    def test_output_of_other_options_model_or_prompts_is_kept(self):
        self.batch()
        before = self.answers()
        self.refused(["temp was 0.8, is 0.5", "--restart"], "--temp", "0.5")
        self.refused(["ctx was 256, is 128"], "--ctx", "128")
        data = bytearray(MODEL.read_bytes())
        for at in range(len(data) // 2, len(data), 64):
            data[at] ^= 1
        self.refused(["the model was moe-27m", "is tuned.gguf"], "-m",
                     self.file("tuned.gguf", bytes(data)))
        other = self.input({"prompt": "Another"}, name="other.jsonl")
        self.refused(["is another prompt now"], prompts=other)
        self.assertEqual(self.answers(), before)
        self.batch("--restart", "--temp", "0.5")
        self.assertEqual(len(self.answers()), 8)
        self.assertNotEqual(self.answers(), before)

    def test_file_of_something_else_is_kept(self):
        self.out.write_bytes(b"precious")
        for flags in ([], ["--restart"]):
            self.refused(["out.jsonl is not empty", "another -o"], *flags)
            self.assertEqual(self.out.read_bytes(), b"precious")

    def test_two_at_once_on_one_output(self):
        with open(self.out, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.refuses(1, ["being written by another process"], *self.command())

    def test_damaged_model_is_a_model_error(self):
        path = self.file("cut.gguf", MODEL.read_bytes()[:100_000])
        self.refuses(MODEL_FILE, ["cut.gguf"], *self.command("-m", path))


if __name__ == "__main__":
    unittest.main()
