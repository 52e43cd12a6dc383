# The usage profile from outside: kept between runs, survives being killed, never trusted blindly.
import os
import unittest

from stoker_process import MODEL, SMALL, CliTest

USAGE = 2
GREEDY = ["-p", "The old house", "--temp", "0", "-n", "12"]


class ProfileTest(CliTest):
    def setUp(self):
        super().setUp()
        self.profile = self.folder / "a.profile"

    def run_with(self, profile, *flags, **options):
        result = self.stoker("run", *SMALL, "--ram", "30M", *GREEDY, "--profile", profile, *flags,
                             **options)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        return result.stdout, result.stderr.decode()

    def test_text_is_the_same_with_none_cold_and_warm(self):
        plain, _ = self.run_with("none")
        self.assertFalse(self.profile.exists())
        for _ in ("cold", "warm"):
            text, notes = self.run_with(self.profile)
            self.assertEqual(text, plain)
            self.assertNotIn("ignored", notes)
        self.assertTrue(self.profile.exists())

    def test_killed_at_any_moment_the_next_run_does_not_trip(self):
        for tokens in (0, 1, 3, 6, 9, 12):
            with self.subTest(tokens=tokens):
                process = self.start("run", *SMALL, "--ram", "30M", *GREEDY, "--json", "--profile",
                                     self.profile)
                for _ in range(tokens):
                    process.stdout.readline()
                process.kill()
                process.communicate()
                _, notes = self.run_with(self.profile)
                self.assertNotIn("ignored", notes)

    def test_torn_one_is_noted_and_replaced(self):
        self.run_with(self.profile)
        os.truncate(self.profile, self.profile.stat().st_size // 2)
        self.assertIn("note: the usage profile", self.run_with(self.profile)[1])
        self.assertNotIn("ignored", self.run_with(self.profile)[1])

    def test_a_model_named_by_mistake_is_left_alone(self):
        copy = self.file("copy.gguf", MODEL.read_bytes())
        self.assertIn("is no usage profile", self.run_with(copy)[1])
        self.assertEqual(copy.read_bytes(), MODEL.read_bytes())

    def test_auto_is_in_the_users_cache(self):
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder)}
        self.run_with("auto", env=environment)
        (profile,) = (self.folder / "stoker" / "profiles").iterdir()
        self.assertEqual(profile.suffix, ".profile")

    def test_auto_without_a_place_is_a_note(self):
        environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
        self.assertIn("no place for the usage profile", self.run_with("auto", env=environment)[1])

    def test_folder_that_is_not_there_is_refused(self):
        self.refuses(USAGE, ["no place for the usage profile", "--profile none"], "run", *SMALL,
                     *GREEDY, "--profile", self.folder / "no" / "such" / "a.profile")


if __name__ == "__main__":
    unittest.main()
