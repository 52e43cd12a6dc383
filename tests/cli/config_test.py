# The program and its configuration: files, variables, flags, and what config show and check say.
import json
import os
import unittest

from stoker_process import MODEL, SMALL, SOURCE_DIR, CliTest

USAGE = 2
SHIPPED = sorted((SOURCE_DIR / "configs").glob("*.toml"))


class ShowTest(CliTest):
    def values(self, *arguments, **options):
        (shown,) = self.records("config", "show", "--json", *arguments, **options)
        return shown["values"]

    def environment(self, **variables):
        return {**os.environ, **variables}

    def test_each_source_beats_the_next(self):
        path = self.file("c.toml", b'policy = "lfu"\nthreads = 3\nctx = 300\n')
        values = self.values("--config", path, "--ctx", "100",
                             env=self.environment(STOKER_CTX="200", STOKER_THREADS="2"))
        self.assertEqual(values["ctx"], {"value": 100, "origin": "flag", "place": "--ctx"})
        self.assertEqual(values["threads"], {"value": 2, "origin": "environment",
                                             "place": "STOKER_THREADS"})
        self.assertEqual(values["policy"], {"value": "lfu", "origin": "file",
                                            "place": f"{path}:1"})
        self.assertEqual(values["chunk"], {"value": 512, "origin": "default"})

    def test_what_it_shows_runs_the_same(self):
        flags = [*SMALL, "-p", "The \"old\" house\n", "--temp", "0.7", "--seed", "5", "-n", "8"]
        path = self.file("shown.toml", self.ok("config", "show", "--origin", *flags))
        self.assertEqual(self.ok("run", "--config", path), self.ok("run", *flags))
        self.assertEqual(self.values("--config", path).keys(), self.values(*flags).keys())
        self.ok("config", "check", path)

    def test_variables_reach_the_run(self):
        environment = self.environment(STOKER_MODEL=str(MODEL), STOKER_RAM="min", STOKER_CTX="256",
                                       STOKER_CHUNK="16", STOKER_TEMP="0", STOKER_TOKENS="6",
                                       STOKER_THREADS="1")
        plain = self.ok("run", *SMALL, "--temp", "0", "-n", "6", "-p", "The")
        self.assertEqual(self.ok("run", "-p", "The", env=environment), plain)

    def test_positional_model_wins_over_the_variable(self):
        environment = self.environment(STOKER_MODEL="nowhere.gguf")
        self.assertIn(b"deepseek2", self.ok("inspect", MODEL, env=environment))

    def test_refused_variable_is_named(self):
        self.refuses(USAGE, ["STOKER_CHUNK: ", "from 0 to"], "run", "-m", MODEL, "-p", "x",
                     env=self.environment(STOKER_CHUNK="-1"))

    def test_unknown_variable_is_a_note_unless_quiet(self):
        environment = self.environment(STOKER_THREDS="2")
        result = self.stoker("inspect", MODEL, env=environment)
        self.assertEqual(result.returncode, 0)
        self.assertIn(b"STOKER_THREDS (try STOKER_THREADS)", result.stderr)
        quiet = self.stoker("inspect", MODEL, "--quiet", env=environment)
        self.assertEqual(quiet.stderr, b"")

    def test_other_commands_can_be_shown(self):
        self.assertIn(b"repetitions = 5", self.ok("config", "show", "--for", "bench"))
        self.assertEqual(self.values("--for", "perplexity")["ctx"]["value"], 512)

    def test_bad_use_is_refused(self):
        self.refuses(USAGE, ["unknown command 'rnu'"], "config", "show", "--for", "rnu")
        self.refuses(USAGE, ["unknown flag --rma", "--ram"], "config", "show", "--rma", "8G")
        self.refuses(USAGE, ["takes no configuration"], "config", "show", "--for", "config show")
        self.refuses(USAGE, ["threads is -1"], "config", "show", "--threads", "-1")
        self.refuses(USAGE, ["config show"], "config")


class CheckTest(CliTest):
    def test_every_problem_is_listed(self):
        path = self.file("c.toml", b'threads = -1\nramm = 3\n[lru]\nsize = 1\n')
        message = self.refuses(USAGE, ["3 problems", f"{path}:1", f"{path}:2", f"{path}:4",
                                       "'lru.size'", "try: ram"], "config", "check", path)
        self.assertLess(message.index(f"{path}:1"), message.index(f"{path}:2"))

    def test_file_that_is_no_toml(self):
        path = self.file("c.toml", b"threads = 1\nram = = 3\n")
        self.refuses(USAGE, [f"{path}:2"], "config", "check", path)

    def test_missing_file_and_missing_name(self):
        self.refuses(USAGE, ["nowhere.toml"], "config", "check", "nowhere.toml")
        self.refuses(USAGE, ["no file was named"], "config", "check")

    def test_sound_file(self):
        path = self.file("c.toml", b'ram = "8G"\nrepetitions = 3\nmodel = "later.gguf"\n')
        self.assertIn(b"nothing is wrong", self.ok("config", "check", path))


class ShippedFilesTest(CliTest):
    def test_there_are_three(self):
        self.assertEqual([path.stem for path in SHIPPED],
                         ["cpu-nvme", "laptop", "target-24g-128g-nvme"])

    def test_each_is_sound_and_every_key_is_of_a_run(self):
        for path in SHIPPED:
            with self.subTest(path=path.name):
                self.ok("config", "check", path)
                result = self.stoker("config", "show", "--json", "--config", path)
                self.assertEqual((result.returncode, result.stderr), (0, b""))
                values = json.loads(result.stdout)["values"]
                self.assertTrue(any(v["origin"] == "file" for v in values.values()))

    def test_each_line_that_sets_is_explained(self):
        for path in SHIPPED:
            lines = path.read_text().split("\n")
            for number, line in enumerate(lines):
                if "=" not in line or line.lstrip().startswith("#"):
                    continue
                with self.subTest(path=path.name, line=number + 1):
                    self.assertTrue(number > 0 and lines[number - 1].startswith("#"), line)


if __name__ == "__main__":
    unittest.main()
