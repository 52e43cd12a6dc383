# stoker perplexity over the reference text: minutes under a sanitizer, hence apart.
import unittest

from stoker_process import MODEL, SHARED_DIR, CliTest


class PerplexityTest(CliTest):
    def test_reference_text_gives_the_reference_number(self):
        text = SHARED_DIR / "models" / "text.txt"
        if not text.exists():
            self.skipTest(f"{text} is not there")
        (result,) = self.records("perplexity", "-m", MODEL, "-f", text, "--json")
        self.assertEqual(result["windows"], 21)
        self.assertEqual(result["tokens"], 21 * 511)
        # From the decoded weights in F32; 0.5 % is the room for activations in 8 bits.
        self.assertLess(abs(result["perplexity"] / 68.047 - 1), 0.005)


if __name__ == "__main__":
    unittest.main()
