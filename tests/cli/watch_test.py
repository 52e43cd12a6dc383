# stoker run --watch: lines on the terminal while it runs, and nothing of them in the text.
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import unittest

from stoker_process import BINARY, SMALL, CliTest

RUN = ["run", *SMALL, "-p", "It was a cold evening", "--temp", "0"]
USAGE, INTERRUPTED = 2, 130


class WatchTest(CliTest):
    def watch(self, *arguments, columns=100, text_too=False, interrupt=False, **environment):
        """(status, stdout, what the terminal got) of a run whose stderr is a terminal."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        process = subprocess.Popen(
            [BINARY, *map(str, [*RUN, "--watch", *arguments])], stdin=subprocess.DEVNULL,
            stdout=theirs if text_too else subprocess.PIPE, stderr=theirs,
            env={**os.environ, "TERM": "xterm", **environment})
        os.close(theirs)
        seen = b""
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # the terminal has no writer any more
                break
            seen += data
            if interrupt and b"tokens/s" in seen:
                process.send_signal(signal.SIGINT)
                interrupt = False
        os.close(ours)
        text = b"" if text_too else process.communicate()[0]
        return process.wait(), text, seen.decode(errors="replace")

    def test_lines_show_speed_hits_bandwidth_and_causes(self):
        status, text, seen = self.watch("-n", "12")
        self.assertEqual(status, 0, seen)
        self.assertEqual(text, self.ok(*RUN, "-n", "12"))
        for words in ("tokens/s", "experts RAM ", "drive   ", "not measured (--ceilings)",
                      "memory  ", "time    ", "spike   "):
            self.assertIn(words, seen)

    def test_the_lines_are_wiped_before_the_summary(self):
        _, _, seen = self.watch("-n", "12")
        wiped = seen.rindex("\x1b[J")
        self.assertGreater(wiped, seen.rindex("spike   "))
        self.assertLess(wiped, seen.index("token gaps"))

    def test_text_on_the_same_terminal_comes_whole(self):
        expected = self.ok(*RUN, "-n", "12").decode()
        status, _, seen = self.watch("-n", "12", text_too=True)
        self.assertEqual(status, 0, seen)
        # Text is what is not between where the cursor is saved and where it is restored again.
        plain = re.sub("\x1b7.*?\x1b8", "", seen.replace("\r\n", "\n"), flags=re.S)
        plain = re.sub("\x1b(\\[\\d*[AK]|D)", "", plain)
        self.assertIn(expected, plain)

    def test_colors_are_left_out_when_asked(self):
        self.assertIn("\x1b[30;4", self.watch("-n", "4")[2])
        self.assertNotIn("\x1b[30;4", self.watch("-n", "4", NO_COLOR="1")[2])
        self.assertNotIn("\x1b[30;4", self.watch("-n", "4", TERM="dumb")[2])

    def test_no_line_is_as_wide_as_a_narrow_terminal(self):
        _, _, seen = self.watch("-n", "6", columns=30, NO_COLOR="1")
        lines = re.findall("\x1b\\[2K([^\x1b]*)", seen[:seen.rindex("\x1b[J")])
        self.assertGreater(len(lines), 5)
        self.assertLess(max(map(len, lines)), 30)

    def test_an_interrupt_wipes_the_lines(self):
        status, _, seen = self.watch("-n", "-1", interrupt=True)
        self.assertEqual(status, INTERRUPTED)
        self.assertGreater(seen.rindex("\x1b[J"), seen.rindex("spike   "))

    def test_ceilings_are_measured_when_asked(self):
        status, _, seen = self.watch("-n", "4", "--ceilings")
        self.assertEqual(status, 0, seen)
        self.assertRegex(seen, r"memory  \[=* *\] [\d.]+ .B/s of [\d.]+ .B/s")

    def test_without_a_terminal_it_is_refused(self):
        self.refuses(USAGE, ["--watch needs a terminal", "--json"], *RUN, "-n", "4", "--watch")

    def test_what_excludes_it_is_refused(self):
        self.refuses(USAGE, ["--quiet"], *RUN, "--watch", "--quiet")
        self.refuses(USAGE, ["--ceilings", "--watch"], *RUN, "--ceilings")


if __name__ == "__main__":
    unittest.main()
