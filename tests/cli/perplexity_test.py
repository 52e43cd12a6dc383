# stoker perplexity over the reference text: minutes under a sanitizer, hence apart.
import os
import pathlib
import unittest

from stoker_process import MODEL, SOURCE_DIR, CliTest


class PerplexityTest(CliTest):
    def test_reference_text_gives_the_reference_number(self):
        shared = pathlib.Path(os.environ.get("STOKER_SHARED_DIR", SOURCE_DIR.parent / "shared"))
        text = shared / "models" / "text.txt"
        if not text.exists():
            self.skipTest(f"{text} is not there")
        (result,) = self.records("perplexity", "-m", MODEL, "-f", text, "--json")
        self.assertEqual(result["windows"], 21)
        self.assertEqual(result["tokens"], 21 * 511)
        # From the decoded weights in F32; 0.5 % is the room for activations in 8 bits.
        self.assertLess(abs(result["perplexity"] / 68.047 - 1), 0.005)


if __name__ == "__main__":
    unittest.main()
