# stoker simulate and stoker tune: numbers that others measured, what they print, what they refuse.
import json
import os
import re
import unittest

from stoker_process import MODEL, MODELLED, SHARED_DIR, SMALL, CliTest

USAGE = 2
TRACES = SHARED_DIR / "data" / "traces"


def write_packed(folder, tokens, layers=3, experts=8, top_k=2):
    """A packed trace of one sequence of `tokens` decoded tokens, worked out by a small formula."""
    ids = bytearray()
    state = 1
    for _ in range(tokens):
        for _ in range(layers):
            state = state * 1103515245 + 12345 & 0x7FFFFFFF
            first = (state >> 16) % (experts if state & 0x300 else 3)
            ids += bytes([first, (first + 1) % experts])
    shape = {"model": "a model", "n_layers": layers, "n_experts": experts, "top_k": top_k,
             "n_tokens": tokens, "first_moe_layer": 0, "order": "ids by router rank",
             "sequences": [{"start": 0, "n_tokens": tokens, "phase": "decode"}]}
    (folder / "small.ids.u8").write_bytes(ids)
    path = folder / "small.json"
    path.write_text(json.dumps(shape))
    return path


class SharedTracesTest(CliTest):
    def setUp(self):
        super().setUp()
        if not TRACES.is_dir():
            self.skipTest("no reference data (set STOKER_SHARED_DIR or put it in ../shared)")

    def test_toy_counts_what_is_worked_out_by_hand(self):
        (row,) = self.records("simulate", TRACES / "conformance-toy", "--policy", "lru-per-layer",
                              "--budget", "50%", "--json")
        self.assertEqual((row["accesses"], row["hits"], row["misses"]), (30, 12, 18))
        self.assertEqual((row["policy"], row["budget_bytes"]), ("lru-per-layer", 6))

    def test_recorded_route_gives_the_published_rates(self):
        rows = self.records("simulate", TRACES / "bigmoe-qwen.route.csv", "--policy", "lru,belady",
                            "--budget", "4000MiB,1000MiB", "--json")
        rates = {(r["policy"], r["budget_bytes"] >> 20): 100 * r["hit_rate"] for r in rows}
        for key, percent in ((("lru", 1000), 37.679), (("belady", 1000), 62.671),
                             (("lru", 4000), 80.287), (("belady", 4000), 92.716)):
            self.assertAlmostEqual(rates[key], percent, places=3)
        for row in rows:
            self.assertEqual(row["accesses"], 36864)
            self.assertEqual(row["hits"] + row["misses"], row["accesses"])
            self.assertGreater(row["prompt_accesses"], 0)
            self.assertGreater(row["tokens_per_s"], 0)
            self.assertGreaterEqual(row["p99_ms"], row["p50_ms"])
            self.assertLessEqual(row["hit_rate"], row["belady_hit_rate"])

    def test_text_is_a_table_and_a_picture_that_fit(self):
        for columns in ("40", "80", "120"):
            with self.subTest(columns=columns):
                text = self.ok("simulate", TRACES / "bigmoe-qwen.route.csv", "--policy",
                               "lru,lfu,belady", "--budget", "5%,10%,40%",
                               env={**os.environ, "COLUMNS": columns}).decode()
                self.assertNotIn("\x1b", text)  # not a terminal
                table = text[text.index("\n\n"):]
                self.assertLessEqual(max(map(len, table.splitlines())), int(columns))
                for word in ("belady", "lru", "40 % of all experts", "hit rate over budget",
                             "a lru", "c belady"):
                    self.assertIn(word, text)
                self.assertIn("(assumed)", text)


class SimulateTest(CliTest):
    def setUp(self):
        super().setUp()
        self.trace = write_packed(self.folder, 64)

    def test_all_policies_and_the_usual_budgets_are_the_default(self):
        rows = self.records("simulate", self.trace, "--json")
        self.assertEqual(sorted({r["budget_percent"] for r in rows}),
                         sorted({100 * round(24 * s) / 24 for s in (.0625, .125, .25, .5)}))
        policies = {r["policy"] for r in rows}
        self.assertIn("belady", policies)
        self.assertIn("lru", policies)
        self.assertNotIn("static", policies)  # there is no profile
        for row in rows:
            self.assertEqual(row["accesses"], 64 * 3 * 2)
            self.assertIsNone(row["tokens_per_s"])  # nobody knows how large an expert is
            self.assertEqual(row["bytes_read"], row["misses"])

    def test_sizes_can_be_given(self):
        rows = self.records("simulate", self.trace, "--policy", "lru", "--budget", "25%,12MiB",
                            "--expert-bytes", "1MiB", "--json", "--drive", "1GB/s")
        self.assertEqual([r["budget_bytes"] >> 20 for r in rows], [6, 12])
        self.assertEqual(rows[0]["bytes_read"], rows[0]["misses"] << 20)
        self.assertGreater(rows[1]["tokens_per_s"], rows[0]["tokens_per_s"])

    def test_drafts_put_tokens_into_fewer_steps_that_share_experts(self):
        flags = ["simulate", self.trace, "--expert-bytes", "1MiB", "--budget", "50%", "--policy",
                 "lru", "--store", "slots", "--json"]
        (plain,) = self.records(*flags)
        (right,) = self.records(*flags, "--draft-len", "3", "--acceptance", "1")
        (wrong,) = self.records(*flags, "--draft-len", "3", "--acceptance", "0")
        self.assertNotIn("draft_length", plain)
        self.assertEqual(right["draft_length"], 3)
        self.assertLess(right["accesses"], plain["accesses"])
        self.assertGreater(right["tokens_per_s"], plain["tokens_per_s"])
        self.assertLess(wrong["tokens_per_s"], plain["tokens_per_s"])

    def test_drafts_that_cannot_be_simulated_are_refused(self):
        for flags, word in ((["--draft-len", "2"], "--acceptance"),
                            (["--draft-len", "99"], "from 0 to 16"),
                            (["--acceptance", "0.5"], "--draft-len"),
                            (["--draft-len", "2", "--acceptance", "2"], "from 0 to 1")):
            with self.subTest(flags=flags):
                self.refuses(USAGE, [word], "simulate", self.trace, *flags)

    def test_both_stores_count_a_single_sequence_alike(self):
        flags = ["simulate", self.trace, "--expert-bytes", "1MiB", "--budget", "50%", "--policy",
                 "lru", "--json"]
        (pool,) = self.records(*flags, "--store", "pool")
        (slots,) = self.records(*flags, "--store", "slots", "--layer-floor", "0")
        for key in ("accesses", "hits", "misses", "bytes_read"):
            self.assertEqual(pool[key], slots[key])

    def test_threads_do_not_show(self):
        one = self.ok("simulate", self.trace, "--json", "--threads", "1")
        self.assertEqual(one, self.ok("simulate", self.trace, "--json", "--threads", "4"))

    def test_parameters_reach_the_policy(self):
        flags = ["simulate", self.trace, "--policy", "lfu", "--budget", "25%", "--json"]
        rates = {self.records(*flags, "--lfu.uses_per_key", n)[0]["hits"] for n in ("1", "64")}
        self.assertEqual(len(rates), 2)

    def test_a_profile_of_the_trace_lets_static_run(self):
        (row,) = self.records("simulate", self.trace, "--policy", "static", "--budget", "25%",
                              "--profile", "trace", "--json")
        self.assertGreater(row["hits"], 0)
        self.refuses(USAGE, ["static", "profile", "try:"], "simulate", self.trace, "--policy",
                     "static")

    def test_what_cannot_be_used_is_refused(self):
        for flags, words in ((["--policy", "mru"], ["mru", "lru"]),
                             (["--policy", "lru,,lfu"], ["--policy", "commas"]),
                             (["--budget", "0%"], ["--budget", "25%"]),
                             (["--budget", "120%"], ["--budget"]),
                             (["--budget", "lots"], ["--budget"]),
                             (["--budget", "1GiB"], ["--expert-bytes"]),
                             (["--store", "attic"], ["--store", "pool"]),
                             (["--layer-floor", "1"], ["--layer-floor", "slots"]),
                             (["--drive", "fast"], ["--drive"]),
                             (["--drive-latency-us", "-7"], ["--drive-latency-us"]),
                             (["--layer-us", "nan"], ["--layer-us"]),
                             (["--threads", "-1"], ["--threads"]),
                             (["--admission", "nobody"], ["nobody"]),
                             (["--profile", "yours"], ["--profile", "trace"]),
                             (["--prefetch", "popularity"], ["--prefetch", "slots"]),
                             (["--store", "slots"], ["--store", "--expert-bytes"]),
                             (["--prefetch", "magic", "--store", "slots", "--budget", "50%",
                               "--policy", "lru", "--expert-bytes", "1MiB"], ["magic"]),
                             (["--prefetch", "token", "--store", "slots", "--budget", "50%",
                               "--policy", "lru", "--expert-bytes", "1MiB"],
                              ["token", "trace has none", "stoker run --prefetch"]),
                             (["--expert-bytes", "0"], ["--expert-bytes"])):
            with self.subTest(flags=flags):
                self.refuses(USAGE, words, "simulate", self.trace, *flags)
        self.refuses(USAGE, ["no trace", "try:"], "simulate")

    def test_a_budget_below_one_token_is_said(self):
        self.refuses(4, ["minimum"], "simulate", self.trace, "--store", "slots", "--budget",
                     "1MiB", "--expert-bytes", "1MiB", "--policy", "lru")


class OwnTraceTest(CliTest):
    def test_counts_what_the_run_counted(self):
        path = self.folder / "run.trace"
        for policy in ("lru", "lfu", "s3-fifo-per-layer"):
            with self.subTest(policy=policy):
                if path.exists():
                    path.unlink()
                # A prompt of one chunk, then a token a step.
                run = self.stoker("run", "-m", MODEL, "--ram", "30M", "--ctx", "256", "--threads",
                                  "1", "--ids", "1 2 3 4 5", "-n", "20", "--temp", "0", "--policy",
                                  policy, "--trace", path, "--json")
                self.assertEqual(run.returncode, 0, run.stderr.decode())
                summary = json.loads(run.stdout.splitlines()[-1])
                (row,) = self.records("simulate", path, "--policy", policy, "--json")
                self.assertEqual(row["store"], "slots")
                for prefix, phase in (("", "decode"), ("prompt_", "prompt")):
                    for ours, theirs in (("hits", "hits"), ("misses", "misses"),
                                         ("bytes_read", "read_bytes")):
                        self.assertEqual(row[prefix + ours], summary[phase][theirs])
                self.assertGreater(row["hits"], 0)
                self.assertGreater(row["tokens_per_s"], 0)


class TieredTraceTest(CliTest):
    def test_vram_and_ram_are_counted_apart(self):
        path = self.folder / "run.trace"
        run = self.stoker("run", *SMALL, *MODELLED, "--vram", "auto", "--ids", "1 2 3", "-n", "4",
                          "--temp", "0", "--trace", path, "--json")
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        recorded, = self.records("simulate", path, "--policy", "lru", "--json")
        self.assertGreater(recorded["vram_budget_bytes"], 0)
        self.assertEqual(recorded["place"], "auto")
        self.assertGreater(recorded["vram_hits"] + recorded["prompt_bytes_copied_in"], 0)
        rows = self.records("simulate", path, "--policy", "lru,belady", "--vram", "0,10%,30%",
                            "--budget", "30%", "--vram-policy", "lfu", "--place", "gpu",
                            "--copy-in", "8GB/s", "--copy-out", "8GB/s", "--copy-latency-us", "10",
                            "--device-rate", "500GB/s", "--device-latency-us", "9", "--json")
        lru = [row for row in rows if row["policy"] == "lru"]
        self.assertEqual(len(lru), 3)
        self.assertEqual(lru[0]["vram_hits"], 0)
        for row in lru:
            self.assertEqual(row["vram_hits"] + row["ram_hits"], row["hits"])
            self.assertEqual((row["vram_policy"], row["place"]), ("lfu", "gpu"))
            self.assertGreater(row["tokens_per_s"], 0)
        text = self.ok("simulate", path, "--policy", "lru", "--vram", "10%", "--copy-in",
                       "8GB/s", env={**os.environ, "COLUMNS": "100"}).decode()
        for word in ("in VRAM", "copied/token", "copies to the device 8.00 GB/s (given)"):
            self.assertIn(word, text)
        for flags, words in ((["--vram", "lots"], ["--vram", "25%"]),
                             (["--vram-policy", "mru"], ["mru", "lru"]),
                             (["--place", "attic"], ["attic", "auto"]),
                             (["--copy-in", "fast"], ["--copy-in"]),
                             (["--device-latency-us", "-7"], ["--device-latency-us"]),
                             (["--vram", "10%", "--store", "pool"], ["--vram", "slots"])):
            with self.subTest(flags=flags):
                self.refuses(USAGE, words, "simulate", path, "--policy", "lru", *flags)


class TuneTest(CliTest):
    def test_recommends_with_evidence_what_simulate_confirms(self):
        trace = write_packed(self.folder, 400)
        output = self.folder / "tuned.toml"
        self.ok("tune", trace, "--budget", "25%", "-o", output, "--replays", "60")
        text = output.read_text()
        for word in ("searched", "held out", "belady", "\npolicy = ", "\nadmission = "):
            self.assertIn(word, text)
        rows = [list(map(float, re.findall(r"([\d.]+) %", line)))
                for line in text.splitlines() if re.match(r"#  +[\d.]+ %", line)]
        default, best = rows[0], rows[1]
        policy = re.search(r'^policy = "(.*)"$', text, re.M).group(1)
        if policy != "lru":
            self.assertGreater(best[0], default[0])
            self.assertGreater(best[1], default[1])
        # The same file again, and one that simulate takes.
        self.assertEqual(text.encode(), self.ok("tune", trace, "--budget", "25%", "--replays",
                                                "60"))
        (row,) = self.records("simulate", trace, "--config", output, "--policy", policy,
                              "--budget", "25%", "--json")
        self.assertGreater(row["hit_rate"], 0)

    def test_what_cannot_be_tuned_is_refused(self):
        trace = write_packed(self.folder, 64)
        self.refuses(USAGE, ["one budget"], "tune", trace)
        self.refuses(USAGE, ["--replays"], "tune", trace, "--budget", "25%", "--replays", "0")
        self.refuses(USAGE, ["searches"], "tune", trace, "--budget", "25%", "--lfu.uses_per_key",
                     "4")
        short = write_packed(self.folder, 8)
        self.refuses(USAGE, ["8 steps", "longer"], "tune", short, "--budget", "25%")
        self.refuses(1, ["cannot write"], "tune", write_packed(self.folder, 64), "--budget",
                     "25%", "-o", self.folder / "no" / "where.toml")


if __name__ == "__main__":
    unittest.main()
