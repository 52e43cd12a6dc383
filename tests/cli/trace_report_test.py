# stoker trace report: which page comes of which trace, and what is refused.
import json
import unittest

from stoker_process import SMALL, CliTest

USAGE, TRACE_FILE = 2, 3


class TraceReportTest(CliTest):
    def packed(self, name, shift=0):
        """A trace of another program: 40 tokens, 2 layers of 8 experts, top 2."""
        shape = {"model": f"{name} & co", "n_layers": 2, "n_experts": 8, "top_k": 2, "n_tokens": 40,
                 "first_moe_layer": 1, "sequences": [{"start": 0, "n_tokens": 40,
                                                      "phase": "decode"}]}
        ids = bytes((token + layer + rank * 3 + shift) % 8
                    for token in range(40) for layer in range(2) for rank in range(2))
        self.file(f"{name}.ids.u8", ids)
        return self.file(f"{name}.json", json.dumps(shape).encode())

    def test_a_foreign_trace_gives_a_page_of_its_routing(self):
        page = self.ok("trace", "report", self.packed("theirs"), "-o", "-").decode()
        self.assertTrue(page.startswith("<!doctype html>"))
        self.assertIn("Run of theirs &amp; co", page)
        self.assertIn("The trace has no times", page)
        self.assertIn('id="heat"', page)

    def test_the_page_is_written_where_it_is_asked_for(self):
        trace, path = self.packed("theirs"), self.folder / "here.html"
        self.assertEqual(self.ok("trace", "report", trace, "-o", path), b"")
        self.assertEqual(path.read_bytes(), self.ok("trace", "report", trace, "-o", "-"))
        self.ok("trace", "report", trace, cwd=self.folder)
        self.assertEqual((self.folder / "report.html").read_bytes(), path.read_bytes())

    def test_two_traces_are_held_against_each_other(self):
        page = self.ok("trace", "report", self.packed("one"), "--compare",
                       self.packed("two", shift=1), "-o", "-").decode()
        self.assertIn("A: one &amp; co, B: two &amp; co", page)
        self.assertIn('id="agreement-choices"', page)

    def test_a_recorded_run_gives_a_page_with_times_and_causes(self):
        trace = self.folder / "run.trace"
        self.ok("run", *SMALL, "-p", "It was a cold evening", "-n", "24", "--temp", "0", "--trace",
                trace)
        page = self.ok("trace", "report", trace, "-o", "-", "--drive-ceiling", "100GB/s").decode()
        for words in ("moe-27m.q4_k.gguf", "23 tokens in ", 'id="latency-over-time"',
                      'id="causes-over-time"', 'id="hits-by-layer"', "of the 100.00 GB/s measured",
                      "were in memory", "lru"):
            self.assertIn(words, page)
        self.assertNotIn("has no times", page)
        self.assertNotIn("no cause:", page)

    def test_what_cannot_be_used_is_refused(self):
        trace = self.packed("theirs")
        self.refuses(USAGE, ["no trace was named", "try:"], "trace", "report")
        self.refuses(USAGE, ["--drive-ceiling", "24GB/s"], "trace", "report", trace,
                     "--drive-ceiling", "fast")
        self.refuses(USAGE, ["--compare shows no ceilings"], "trace", "report", trace, "--compare",
                     trace, "--memory-ceiling", "24GB/s")
        self.refuses(TRACE_FILE, ["absent.trace"], "trace", "report", self.folder / "absent.trace")
        self.refuses(1, ["cannot write", "-o"], "trace", "report", trace, "-o",
                     self.folder / "no" / "folder.html")


if __name__ == "__main__":
    unittest.main()
