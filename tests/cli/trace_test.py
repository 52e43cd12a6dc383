# --trace, and trace export of what it wrote and of traces of other programs.
import csv
import io
import json
import resource
import signal
import unittest

from stoker_process import MODEL, SHARED_DIR, SMALL, CliTest

LAYERS, EXPERTS, USED = 6, 64, 6


class TraceTest(CliTest):
    def record(self, *flags, tokens=5):
        path = self.folder / "run.trace"
        self.ok("run", *SMALL, "--ids", "1 2 3", "--temp", "0", "-n", tokens, "--trace", path,
                *flags)
        return path

    def test_json_holds_the_run(self):
        header, *steps = self.records("trace", "export", self.record(), "--json")
        self.assertEqual((header["type"], header["format"]), ("header", "stoker"))
        self.assertEqual(header["model"], str(MODEL))
        self.assertEqual(len(header["layers"]), LAYERS)
        self.assertEqual({layer["experts"] for layer in header["layers"]}, {EXPERTS})
        self.assertEqual(header["store"]["policy"], "lru")
        self.assertEqual(sum(step["tokens"] for step in steps), 5)
        for step in steps:
            self.assertEqual(sum(step["causes"].values()), step["wall_ns"])
            self.assertEqual(len(step["routing"]), LAYERS)
            for routing in step["routing"]:
                self.assertEqual([len(row) for row in routing["experts"]],
                                 [USED] * len(step["rows"]))
                self.assertEqual(len(routing["weights"]), len(step["rows"]))
            reads = [r for r in step["residency"] if r["change"] == "read"]
            self.assertEqual(len(reads), step["misses"])
        self.assertEqual([row["position"] for step in steps for row in step["rows"]],
                         list(range(len(steps) + 2)))

    def test_csv_has_a_line_for_each_expert_of_each_token(self):
        path = self.record()
        text = self.ok("trace", "export", path, "--csv").decode()
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual(list(rows[0]), ["step", "sequence", "position", "phase", "layer", "rank",
                                         "expert", "weight", "resident"])
        _, *steps = self.records("trace", "export", path, "--json")
        uses = [(step["step"], routing["layer"], expert)
                for step in steps for routing in step["routing"]
                for row in routing["experts"] for expert in row]
        self.assertEqual([(int(r["step"]), int(r["layer"]), int(r["expert"])) for r in rows], uses)
        self.assertEqual({r["phase"] for r in rows}, {"prompt", "decode"})
        self.assertEqual({r["resident"] for r in rows}, {""})
        self.assertTrue(all(0 <= float(r["weight"]) <= 4 for r in rows))

    def test_perfetto_has_steps_causes_and_counters(self):
        path = self.record()
        _, *steps = self.records("trace", "export", path, "--json")
        picture = json.loads(self.ok("trace", "export", path, "--perfetto"))
        events = picture["traceEvents"]
        slices = [e for e in events if e["ph"] == "X"]
        self.assertEqual(len([e for e in slices if e["tid"] == 1]), len(steps))
        for step, drawn in zip(steps, (e for e in slices if e["tid"] == 1)):
            self.assertAlmostEqual(drawn["dur"], step["wall_ns"] / 1000, delta=0.01)
            causes = [e for e in slices if e["tid"] == 2
                      and drawn["ts"] - 0.01 <= e["ts"] < drawn["ts"] + drawn["dur"]]
            self.assertAlmostEqual(sum(e["dur"] for e in causes), drawn["dur"], delta=0.1)
        counters = {e["name"] for e in events if e["ph"] == "C"}
        self.assertEqual(counters, {"hit rate", "bytes read"})

    def test_weights_can_be_left_out(self):
        with_weights = self.record().stat().st_size
        path = self.record("--trace-ids-only")
        self.assertLess(path.stat().st_size, with_weights)
        header, step, *_ = self.records("trace", "export", path, "--json")
        self.assertEqual(header["weights"], "none")
        self.assertNotIn("weights", step["routing"][0])

    def test_output_file_holds_what_standard_output_would(self):
        path = self.record()
        for export in ("--csv", "--json", "--perfetto"):
            target = self.folder / "out"
            self.assertEqual(self.ok("trace", "export", path, export, "-o", target), b"")
            self.assertEqual(target.read_bytes(), self.ok("trace", "export", path, export))

    def test_a_killed_run_leaves_a_readable_trace(self):
        path = self.folder / "run.trace"
        process = self.start("run", *SMALL[:4], "--ctx", "2048", "--ids", "1", "-n", "2000",
                             "--json", "--trace", path)
        # A line a token: until another block has been written.
        self.addCleanup(process.communicate)
        self.assertTrue(process.stdout.readline())
        written = path.stat().st_size
        while path.stat().st_size == written:
            self.assertTrue(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        result = self.stoker("trace", "export", path, "--json")
        self.assertEqual(result.returncode, 0)
        self.assertIn("was not ended by the run", result.stderr.decode())
        self.assertGreater(len(result.stdout.splitlines()), 1)
        # And the next run replaces it.
        self.record()
        self.assertNotIn(b"was not ended", self.stoker("trace", "export", path, "--csv").stderr)

    def test_a_full_disk_ends_the_trace_and_not_the_run(self):
        path = self.folder / "run.trace"
        flags = [*SMALL, "--ids", "1", "--temp", "0", "-n", "200"]
        expected = self.ok("run", *flags)
        limit = (8000, 8000)
        result = self.stoker(
            "run", *flags, "--trace", path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        self.assertEqual(result.stdout, expected)
        self.assertIn("the run goes on without", result.stderr.decode())
        self.ok("trace", "export", path, "--csv")

    def test_a_trace_that_cannot_be_written_is_refused(self):
        self.refuses(2, ["--trace", "nowhere/x"], "run", *SMALL, "--ids", "1", "--trace",
                     "nowhere/x")
        precious = self.file("precious", b"no trace")
        self.refuses(2, ["precious", "not overwritten"], "run", *SMALL, "--ids", "1", "--trace",
                     precious)
        self.assertEqual(precious.read_bytes(), b"no trace")

    def test_what_cannot_be_exported_is_refused(self):
        path = self.record()
        self.refuses(2, ["no trace was named"], "trace", "export", "--csv")
        self.refuses(2, ["0 formats", "--csv, --json, --perfetto"], "trace", "export", path)
        self.refuses(2, ["2 formats"], "trace", "export", path, "--csv", "--json")
        self.refuses(3, ["missing"], "trace", "export", self.folder / "missing", "--csv")
        self.refuses(3, ["route-csv", "events-csv"], "trace", "export", MODEL, "--csv")
        self.refuses(1, ["nowhere/out"], "trace", "export", path, "--csv", "-o", "nowhere/out")
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        self.refuses(3, ["damaged.trace, block"], "trace", "export",
                     self.file("damaged.trace", damaged), "--csv")

    @unittest.skipUnless(SHARED_DIR.is_dir(), "no reference data (STOKER_SHARED_DIR)")
    def test_traces_of_other_programs_are_exported_too(self):
        traces = SHARED_DIR / "data" / "traces"
        text = self.ok("trace", "export", traces / "bigmoe-qwen.route.csv", "--csv").decode()
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual(len(rows), 44766)
        self.assertEqual({r["resident"] for r in rows}, {"0", "1"})
        header, *steps = self.records("trace", "export", traces / "conformance-toy", "--json")
        self.assertEqual(header["format"], "events-csv")
        self.assertEqual(sum(step["hits"] for step in steps), 12)
        picture = json.loads(self.ok("trace", "export", traces / "kimi-linear-48b-a3b.ids.u8",
                                     "--perfetto"))
        self.assertEqual(sum(e["ph"] == "X" for e in picture["traceEvents"]), 300)


if __name__ == "__main__":
    unittest.main()
