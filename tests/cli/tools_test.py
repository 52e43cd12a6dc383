# inspect, bench, logits, perplexity, tokenize, detokenize and the help texts.
import csv
import io
import json
import math
import struct
import unittest

from stoker_process import MODEL, MODELLED, SMALL, SOURCE_DIR, VOCABULARY, CliTest

COMMANDS = ("run", "inspect", "bench", "logits", "perplexity", "tokenize", "detokenize")
HIDDEN, LAYERS = 256, 7


def read_safetensors(path):
    """{name: (shape, floats)} of a file of F32 tensors."""
    data = path.read_bytes()
    (header_bytes,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + header_bytes])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32"
        begin, end = entry["data_offsets"]
        body = data[8 + header_bytes + begin:8 + header_bytes + end]
        tensors[name] = (entry["shape"], struct.unpack(f"<{len(body) // 4}f", body))
    return tensors


class HelpTest(CliTest):
    def test_help_lists_commands_and_exit_statuses(self):
        text = self.ok("--help").decode()
        for word in (*COMMANDS, "Exit status", "130"):
            self.assertIn(word, text)

    def test_every_command_has_help(self):
        for command in COMMANDS:
            with self.subTest(command=command):
                self.assertIn("--model", self.ok(command, "--help").decode())

    def test_commands_that_run_a_model_share_its_flags(self):
        for command in ("run", "bench", "logits", "perplexity"):
            text = self.ok(command, "--help").decode()
            for flag in ("--ram", "--threads", "--policy", "--chunk", "--isa", "--io", "--kv",
                         "--device", "--vram", "--place", "--gpu", "--config"):
                self.assertIn(flag, text)

    def test_version(self):
        self.assertRegex(self.ok("--version").decode(), r"^stoker \d+\.\d+\.\d+\n$")


class InspectTest(CliTest):
    def test_json_adds_up(self):
        (model,) = self.records("inspect", MODEL, "--json", "--tensors")
        self.assertEqual(model["architecture"]["arch"], "deepseek2")
        self.assertEqual(model["architecture"]["layers"], LAYERS)
        self.assertEqual(model["architecture"]["experts"], 64)
        for table in ("parts", "formats"):
            self.assertEqual(sum(t["bytes"] for t in model[table].values()), model["tensor_bytes"])
        self.assertEqual(sum(t["bytes"] for t in model["tensors"]), model["tensor_bytes"])
        classes = model["experts"]["size_classes"]
        self.assertEqual(sum(c["experts"] for c in classes), model["experts"]["count"])
        self.assertEqual(sum(c["experts"] * c["expert_bytes"] for c in classes),
                         model["experts"]["bytes"])
        self.assertLess(model["memory"]["minimum_bytes"], model["memory"]["full_bytes"])

    def test_text_tells_the_same(self):
        text = self.ok("inspect", "-m", MODEL).decode()
        for word in ("deepseek2", "qwen2", "Q4_K", "at least", "at best"):
            self.assertIn(word, text)
        self.assertNotIn("blk.0.", text)
        self.assertIn("blk.0.", self.ok("inspect", MODEL, "--tensors").decode())

    def test_minimum_is_what_a_run_takes(self):
        (model,) = self.records("inspect", MODEL, "--ctx", "256", "--chunk", "16", "--json")
        minimum = model["memory"]["minimum_bytes"]
        flags = ["-m", MODEL, "--ctx", "256", "--chunk", "16", "-p", "x", "-n", "1"]
        self.ok("run", *flags, "--ram", minimum)
        self.refuses(4, [str(minimum)], "run", *flags, "--ram", minimum - 1)


    def test_plan_is_that_of_the_run(self):
        for flags in ([], [*MODELLED, "--vram", "40M"], [*MODELLED, "--vram", "min"]):
            with self.subTest(flags=flags):
                plan = self.ok("inspect", "--plan", *SMALL, *flags).decode()
                result = self.stoker("run", *SMALL, *flags, "--ids", "1", "-n", "1")
                self.assertEqual(result.returncode, 0, result.stderr.decode())
                self.assertIn(plan, result.stderr.decode())

    def test_plan_as_json_adds_up(self):
        (plan,) = self.records("inspect", "--plan", "--json", *SMALL)
        self.assertIsNone(plan["device"])
        parts = ("trunk", "embedding", "kv", "workspace", "reader", "draft", "tokenizer", "trace",
                 "profile", "prefetch", "process", "slot", "staging", "table")
        self.assertEqual(sum(plan[f"{p}_bytes"] for p in parts), plan["total_bytes"])
        (plan,) = self.records("inspect", "--plan", "--json", *SMALL, "--prefetch", "lookahead")
        self.assertGreater(plan["prefetch_bytes"], 0)
        self.assertEqual(sum(plan[f"{p}_bytes"] for p in parts), plan["total_bytes"])
        (plan,) = self.records("inspect", "--plan", "--json", *SMALL, *MODELLED)
        device = plan["device"]
        parts = ("trunk", "kv", "workspace", "slot", "driver")
        self.assertEqual(sum(device[f"{p}_bytes"] for p in parts), device["total_bytes"])
        self.assertEqual(device["total_bytes"], device["full_bytes"])
        self.assertEqual((plan["trunk_bytes"], plan["kv_bytes"]), (0, 0))
        slots = sum(c["slots"] * c["slot_bytes"] for c in device["size_classes"])
        self.assertEqual(slots, device["slot_bytes"])


class LogitsTest(CliTest):
    def test_file_holds_logits_and_hidden_states(self):
        path = self.folder / "out.safetensors"
        self.ok("logits", *SMALL, "--ids", "1 2 3", "-o", path, "--hidden")
        tensors = read_safetensors(path)
        shape, logits = tensors["logits"]
        self.assertEqual(shape, [3, VOCABULARY])
        self.assertTrue(all(map(math.isfinite, logits)))
        self.assertEqual(tensors["hidden"][0], [LAYERS + 1, 3, HIDDEN])

    def test_chunks_do_not_show(self):
        files = []
        for chunk in ("1", "3", "0"):
            files.append(self.folder / f"{chunk}.safetensors")
            self.ok("logits", *SMALL[:6], "--chunk", chunk, "--ids", "9 8 7 6 5 4 3", "-o",
                    files[-1])
        self.assertEqual(len({f.read_bytes() for f in files}), 1)

    def test_best_logit_is_what_greedy_decoding_takes(self):
        path = self.folder / "out.safetensors"
        self.ok("logits", *SMALL, "--ids", "100 200 300", "-o", path)
        last = read_safetensors(path)["logits"][1][-VOCABULARY:]
        token, _ = self.records("run", *SMALL, "--ids", "100 200 300", "--temp", "0", "-n", "1",
                                "--json")
        self.assertEqual(token["id"], last.index(max(last)))

    def test_output_that_cannot_be_written(self):
        self.refuses(1, ["nowhere"], "logits", *SMALL, "--ids", "1", "-o", "nowhere/out")
        self.refuses(2, ["-o"], "logits", *SMALL, "--ids", "1")


class PerplexityTest(CliTest):
    def test_small_window_gives_a_finite_number(self):
        text = self.file("text.txt", (SOURCE_DIR / "LICENSE").read_bytes())
        (result,) = self.records("perplexity", *SMALL, "-f", text, "--ctx", "64", "--json")
        self.assertGreater(result["perplexity"], 1)
        self.assertEqual(result["tokens"], 63 * result["windows"])


class TokenizerTest(CliTest):
    TEXTS = ("Plain words.", "  spaces\tand\n\nlines ", "Größe, naïve, 東京, \U0001f600", "", "12345")

    def test_text_survives_the_round_trip(self):
        for text in self.TEXTS:
            with self.subTest(text=text):
                ids = self.ok("tokenize", "-m", MODEL, "--no-bos", stdin=text.encode())
                self.assertEqual(self.ok("detokenize", "-m", MODEL, stdin=ids).decode(), text)

    def test_bytes_that_are_no_utf8_survive_too(self):
        data = b"a\xff\xfeb\xe6\x9dc"
        ids = self.ok("tokenize", "-m", MODEL, "--no-bos", stdin=data)
        self.assertEqual(self.ok("detokenize", "-m", MODEL, stdin=ids), data)

    def test_json_says_the_same(self):
        ids = self.ok("tokenize", "-m", MODEL, stdin=b"Two words").split()
        (tokens,) = self.records("tokenize", "-m", MODEL, "--json", stdin=b"Two words")
        self.assertEqual(tokens["ids"], [int(i) for i in ids])
        self.assertEqual(len(tokens["pieces"]), len(ids))
        (text,) = self.records("detokenize", "-m", MODEL, "--json", stdin=b" ".join(ids))
        self.assertEqual(text["text"], "Two words")


class BenchTest(CliTest):
    FLAGS = ["bench", *SMALL, "-p", "8", "-n", "4", "-r", "2"]

    def test_every_rate_has_a_ceiling(self):
        report = json.loads(self.ok(*self.FLAGS, "--format", "json"))
        rows = {row["name"]: row for row in report["rows"]}
        self.assertEqual(set(rows), {"prompt", "decode", "drive"})
        for row in rows.values():
            self.assertGreater(row["bytes_per_second"], 0)
            self.assertGreater(row["ceiling_bytes_per_second"], 0)
        self.assertGreater(rows["decode"]["tokens_per_second"], 0)

    def test_formats_hold_the_same_rows(self):
        rows = list(csv.DictReader(io.StringIO(self.ok(*self.FLAGS, "--format", "csv").decode())))
        self.assertEqual([row["name"] for row in rows], ["prompt", "decode", "drive"])
        markdown = self.ok(*self.FLAGS, "--format", "markdown").decode()
        for name in ("| prompt |", "| decode |", "| drive |"):
            self.assertIn(name, markdown)

    def test_unknown_format_is_refused(self):
        self.refuses(2, ["markdown"], *self.FLAGS, "--format", "xml")
        self.refuses(2, ["markdown"], "bench", "--links", "--format", "xml")

    def test_runs_on_a_device(self):
        report = json.loads(self.ok("bench", *SMALL, *MODELLED, "-p", "2", "-n", "2", "-r", "1",
                                    "--format", "json"))
        self.assertEqual(report["device"], "modelled GPU")
        self.assertGreater(report["vram_budget_bytes"], 0)
        copies = next(row for row in report["rows"] if row["name"] == "copies")
        self.assertGreater(copies["bytes_per_token"], 0)
        self.assertGreater(copies["ceiling_bytes_per_second"], 0)

    def test_links_are_measured_alone_and_together(self):
        report = json.loads(self.ok("bench", "--links", *SMALL, *MODELLED, "--format", "json"))
        alone = {row["link"]: row for row in report["rows"] if row["beside"] == ""}
        self.assertEqual(set(alone), {"memory read", "experts by the processor, 1 row",
                                      "experts by the processor, 32 rows", "memory of the device",
                                      "copies to the device", "copies from the device", "drive"})
        for row in report["rows"]:
            self.assertGreater(row["bytes_per_second"], 0, row)
        together = {(row["link"], row["beside"]) for row in report["rows"]}
        self.assertIn(("copies to the device", "experts by the processor, 1 row"), together)
        self.assertIn(("copies from the device", "copies to the device"), together)
        self.assertEqual(max(row["beside"].count(";") for row in report["rows"]), 2)

    def test_links_that_are_not_there_are_said(self):
        text = self.ok("bench", "--links", "--device", "cpu").decode()
        self.assertIn("| copies to the device | | no device |", text)
        self.assertIn("| drive | | no model", text)
        rows = list(csv.DictReader(io.StringIO(
            self.ok("bench", "--links", "--device", "cpu", "--format", "csv").decode())))
        self.assertEqual({row["why_not"] for row in rows if row["bytes_per_second"] == "0"},
                         {"no device", "no model was named whose files to read"})


if __name__ == "__main__":
    unittest.main()
