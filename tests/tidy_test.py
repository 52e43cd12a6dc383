#!/usr/bin/env python3
# Tests of the checker: each rule finds what breaks it, and nothing in a clean tree.
import pathlib
import tempfile
import unittest

import tidy

CLEAN = {
    "base/a.h": "// Why a exists.\n#pragma once\nint A();\n",
    "base/a.cc": '// Why a exists.\n#include "base/a.h"\nint A() { return 1; }\n',
    "base/CMakeLists.txt": "stoker_room(base SOURCES a.cc)\n",
}


def long_function(lines):
    return "// Long.\nint A() {\n" + "  f();\n" * lines + "}\n"


class TidyTest(unittest.TestCase):
    def findings(self, extra=None, **options):
        """(path, rule) of what a clean tree with some files changed or added shows."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, text in {**CLEAN, **(extra or {})}.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, encoding="utf-8")
            return [(f.path, f.rule) for f in tidy.check_tree(root, **options)]

    def test_clean_tree_has_no_findings(self):
        self.assertEqual(self.findings(headers=True), [])

    def test_include_against_the_layers_is_found(self):
        text = '// A.\n#include "model/model.h"\n'
        self.assertEqual(self.findings({"cache/a.h": text}), [("cache/a.h", "layer")])

    def test_model_may_include_only_the_provider_of_cache(self):
        provider = '// A.\n#include "cache/expert_provider.h"\n'
        cache = '// A.\n#include "cache/expert_cache.h"\n'
        self.assertEqual(self.findings({"model/a.h": provider}), [])
        self.assertEqual(self.findings({"model/a.h": cache}), [("model/a.h", "layer")])

    def test_tests_may_include_anything(self):
        self.assertEqual(self.findings({"tests/a.h": '// A.\n#include "model/model.h"\n'}), [])

    def test_long_line_is_found(self):
        text = "// A.\n// " + "x" * 98 + "\n"
        self.assertEqual(self.findings({"base/b.h": text}), [("base/b.h", "columns")])

    def test_columns_count_characters_not_bytes(self):
        self.assertEqual(self.findings({"base/b.h": "// " + "é" * 97 + "\n"}), [])

    def test_trailing_space_is_found(self):
        self.assertEqual(self.findings({"base/b.h": "// A. \n"}), [("base/b.h", "space")])

    def test_marker_without_issue_is_found(self):
        self.assertEqual(self.findings({"base/b.h": "// A.\n// TO" "DO: later\n"}),
                         [("base/b.h", "marker")])
        self.assertEqual(self.findings({"base/b.h": "// A.\n// TO" "DO(12): later\n"}), [])

    def test_missing_first_comment_is_found(self):
        self.assertEqual(self.findings({"base/b.h": "#pragma once\n"}),
                         [("base/b.h", "first-line")])

    def test_long_function_is_found(self):
        limit = tidy.FUNCTION_LINES_MAX
        self.assertEqual(self.findings({"base/a.cc": long_function(limit - 2)}), [])
        self.assertEqual(self.findings({"base/a.cc": long_function(limit - 1)}),
                         [("base/a.cc", "function-length")])

    def test_kernels_may_be_longer(self):
        files = {"kernels/k.cc": long_function(tidy.KERNEL_LINES_MAX - 2),
                 "kernels/CMakeLists.txt": "k.cc\n"}
        self.assertEqual(self.findings(files), [])

    def test_braces_in_strings_and_comments_do_not_count(self):
        text = ('int A() {\n  // }\n  f("}");\n  g(\'}\');\n  return 1\'000;\n}\n'
                "struct S {\n  int b() const { return 1; }\n  int c_ = 0;\n};\n")
        self.assertEqual(list(tidy.functions(text)), [(1, 6), (8, 8)])

    def test_initializer_lists_and_trailing_types_are_functions(self):
        text = "S::S(int a)\n    : a_(a), b_{1} {\n}\nauto F() -> int {\n  return 1;\n}\n"
        self.assertEqual(list(tidy.functions(text)), [(1, 3), (4, 6)])

    def test_waiver_needs_a_reason(self):
        text = long_function(tidy.FUNCTION_LINES_MAX)
        allowed = text.replace("// Long.\n", "// Long.\n// tidy: allow(function-length) a table\n")
        bare = text.replace("// Long.\n", "// Long.\n// tidy: allow(function-length)\n")
        self.assertEqual(self.findings({"base/a.cc": allowed}), [])
        self.assertEqual(self.findings({"base/a.cc": bare}), [("base/a.cc", "function-length")])

    def test_long_file_is_found(self):
        text = "// A.\n" + "int a;\n" * tidy.FILE_LINES_MAX
        self.assertEqual(self.findings({"base/b.h": text}), [("base/b.h", "file-length")])

    def test_source_outside_the_build_is_found(self):
        self.assertEqual(self.findings({"base/sub/b.cc": "// B.\n"}), [("base/sub/b.cc", "build")])
        cmake = {"base/CMakeLists.txt": "a.cc sub/b.cc\n", "base/sub/b.cc": "// B.\n"}
        self.assertEqual(self.findings(cmake), [])

    def test_source_named_through_a_loop_is_in_the_build(self):
        files = {"tests/x/CMakeLists.txt": "foreach(unit one two)\n  t(${unit}_test.cc)\n",
                 "tests/x/one_test.cc": "// One.\n", "tests/x/three_test.cc": "// Three.\n"}
        self.assertEqual(self.findings(files), [("tests/x/three_test.cc", "build")])

    def test_registry_row_without_a_test_is_found(self):
        files = {"cache/policies/registry.cc": '// R.\n    {"lru", "x"},\n    {"new", "y"},\n',
                 "cache/CMakeLists.txt": "policies/registry.cc\n",
                 "tests/cache/a.h": '// A.\n// "lru"\n'}
        self.assertEqual(self.findings(files),
                         [("cache/policies/registry.cc", "untested-row")])

    def test_device_code_with_host_library_is_found(self):
        files = {"kernels/cuda/a.cu": '// A.\n#include "absl/status/status.h"\n',
                 "kernels/CMakeLists.txt": "cuda/a.cu\n"}
        self.assertEqual(self.findings(files), [("kernels/cuda/a.cu", "cuda")])

    def test_header_that_leans_on_others_is_found(self):
        files = {"base/b.h": "// B.\n#pragma once\nstd::string B();\n"}
        self.assertEqual(self.findings(files, headers=True), [("base/b.h", "header")])


if __name__ == "__main__":
    unittest.main()
