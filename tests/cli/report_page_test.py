# The report's page in a real browser: it loads nothing, fits a phone, and can be read by keyboard.
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from chromium import Chromium, find_chromium

PAGES = ("everything", "large", "foreign", "comparison")
SCHEMES = ("light", "dark")
PHONE, DESK = 360, 1000

# What a reader sees of a colour without the cones for long, or for middle waves (Machado 2009).
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
              (-0.003882, -0.048116, 1.051998))
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
                (-0.011820, 0.042940, 0.968881))
NORMAL = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def linear(color):
    """[0, 255] each, as sRGB, to light."""
    return [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
            for c in color]


def luminance(light):
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]


def contrast(one, other):
    """WCAG: 1 to 21."""
    low, high = sorted((luminance(linear(one)), luminance(linear(other))))
    return (high + 0.05) / (low + 0.05)


def lab(light):
    """CIELAB of linear sRGB light, D65."""
    r, g, b = light
    xyz = (0.4124 * r + 0.3576 * g + 0.1805 * b, 0.2126 * r + 0.7152 * g + 0.0722 * b,
           0.0193 * r + 0.1192 * g + 0.9505 * b)
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116
               for t in (max(0, v) / w for v, w in zip(xyz, (0.9505, 1, 1.089))))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def difference(one, other, sight):
    """CIE76 between two colours as a reader of that sight sees them."""
    seen = [lab([sum(m * v for m, v in zip(row, linear(color))) for row in sight])
            for color in (one, other)]
    return sum((a - b) ** 2 for a, b in zip(*seen)) ** 0.5


class ReportPageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        path = find_chromium()
        if path is None:
            print("SKIPPED: there is no Chromium\n  try: apt-get install chromium",
                  file=sys.stderr)
            raise unittest.SkipTest("there is no Chromium")
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        subprocess.run([os.environ["STOKER_PAGE_WRITER"], cls.folder], check=True)
        cls.browser = Chromium(path)
        cls.addClassCleanup(cls.browser.close)

    def open(self, page, width=DESK, scheme="light"):
        self.browser.show(width, scheme=scheme)
        self.browser.open(self.url(page))

    def url(self, page):
        return (self.folder / f"{page}.html").as_uri()

    def run_script(self, script):
        return self.browser.run(script)

    def color(self, selector, property_name="color"):
        text = self.run_script(
            f"getComputedStyle(document.querySelector('{selector}')).{property_name}")
        return [float(part) for part in text[text.index("(") + 1:-1].split(",")[:3]]

    def variable(self, name):
        """A custom property of the page, '#rrggbb', as three numbers."""
        text = self.run_script(
            f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
        return [int(text[i:i + 2], 16) for i in (1, 3, 5)]

    def test_nothing_is_loaded_and_nothing_goes_wrong(self):
        for page, scheme, width in itertools.product(PAGES, SCHEMES, (DESK, PHONE)):
            with self.subTest(page=page, scheme=scheme, width=width):
                self.open(page, width, scheme)
                events = self.browser.events
                asked = [e["params"]["request"]["url"] for e in events
                         if e["method"] == "Network.requestWillBeSent"]
                self.assertEqual(asked, [self.url(page)])
                said = [e for e in events if e["method"] in (
                    "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")]
                self.assertEqual(said, [])

    def test_a_phone_does_not_scroll_sideways(self):
        for page in PAGES:
            with self.subTest(page=page):
                self.open(page, PHONE)
                self.run_script("document.querySelectorAll('details').forEach(d => d.open = true)")
                self.assertLessEqual(
                    self.run_script("document.documentElement.scrollWidth"), PHONE)
                # Only what scrolls by itself may hold something wider.
                beyond = self.run_script(
                    "[...document.body.querySelectorAll('*')].filter(e => !e.closest('.scroll, "
                    f"pre, .skip, svg') && e.getBoundingClientRect().right > {PHONE} + 1)"
                    ".map(e => e.outerHTML.slice(0, 80))")
                self.assertEqual(beyond, [])

    def test_text_keeps_its_size_on_a_phone(self):
        self.open("everything", PHONE)
        smallest = self.run_script(
            "Math.min(...[...document.querySelectorAll('span, p, li, td, th, dt, dd, small')]"
            ".filter(e => e.textContent.trim())"
            ".map(e => parseFloat(getComputedStyle(e).fontSize)))")
        self.assertGreaterEqual(smallest, 11)

    def test_text_stands_out_in_both_schemes(self):
        papers = []
        for scheme in SCHEMES:
            self.open("everything", scheme=scheme)
            paper = self.color("body", "backgroundColor")
            card = self.color("section", "backgroundColor")
            papers.append(luminance(linear(paper)))
            for selector in ("h1", ".subtitle", "nav a", ".brand"):
                self.assertGreaterEqual(contrast(self.color(selector), paper), 4.5, selector)
            for selector in ("h2", "figcaption span", "summary", ".facts dt", ".axis-y span",
                             "small", ".missing, p"):
                self.assertGreaterEqual(contrast(self.color(selector), card), 4.5, selector)
            warning = self.color(".warning", "backgroundColor")
            self.assertGreaterEqual(contrast(self.color(".warning"), warning), 4.5)
            for name in ("a", "b", "focus"):
                self.assertGreaterEqual(contrast(self.variable(name), card), 3, name)
        self.assertGreater(papers[0], 0.8)
        self.assertLess(papers[1], 0.05)

    def test_neighbours_in_a_stack_differ_for_every_sight(self):
        stack = ("expert", "attention", "dense", "router", "head", "store", "rest", "device",
                 "copy", "drive")
        pairs = [*itertools.pairwise(stack), ("dense", "expert"), ("expert", "drive"),
                 ("dense", "copy"), ("a", "b")]
        for scheme in SCHEMES:
            self.open("everything", scheme=scheme)
            for one, other in pairs:
                for sight in (NORMAL, PROTANOPIA, DEUTERANOPIA):
                    seen = difference(self.variable(one), self.variable(other), sight)
                    self.assertGreater(seen, 12, (scheme, one, other, sight))

    def test_levels_of_heat_are_in_order_of_lightness(self):
        for scheme in SCHEMES:
            self.open("everything", scheme=scheme)
            lights = [luminance(linear(self.variable(f"heat-{level}"))) for level in range(8)]
            self.assertEqual(lights, sorted(lights, reverse=scheme == "light"))

    def test_tab_reaches_every_picture_and_every_spike(self):
        self.open("everything")
        expected = self.run_script(
            "document.querySelectorAll('.plot, .mark, summary, nav a').length")
        seen = set()
        for count in range(200):
            self.browser.press("Tab")
            at = self.run_script(
                "(e => e === document.body ? null : [...document.querySelectorAll('*')].indexOf(e)"
                " + ' ' + e.className + ' ' + getComputedStyle(e).outlineStyle)"
                "(document.activeElement)")
            if at is None or at in seen:
                break
            if count == 0:
                self.assertIn("skip", at)
            self.assertTrue(at.endswith("solid"), at)  # the focus is seen
            seen.add(at)
        reached = self.run_script(
            "document.querySelectorAll('.plot, .mark, summary, nav a').length")
        self.assertEqual(reached, expected)
        self.assertGreaterEqual(len(seen), expected)
        self.assertEqual(sum(" plot" in s for s in seen),
                         self.run_script("document.querySelectorAll('.plot').length"))
        self.assertEqual(sum(" mark" in s for s in seen),
                         self.run_script("document.querySelectorAll('.mark').length"))

    def test_arrow_keys_read_a_picture(self):
        self.open("everything")
        self.run_script("document.querySelector('#latency-over-time .plot').focus()")
        self.assertEqual(self.readout("latency-over-time"), "")
        self.browser.press("ArrowRight")
        first = self.readout("latency-over-time")
        self.assertRegex(first, r"^Token 1.* Median [\d.]+ ms")
        self.browser.press("End")
        last = self.readout("latency-over-time")
        self.assertRegex(last, "300")
        self.browser.press("Home")
        self.assertEqual(self.readout("latency-over-time"), first)
        self.assertFalse(self.run_script(
            "document.querySelector('#latency-over-time .cursor').hidden"))

    def test_arrow_keys_read_the_heat_map(self):
        self.open("everything")
        self.run_script("document.querySelector('#heat .plot').focus()")
        for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
            self.browser.press(key)
        self.assertRegex(self.readout("heat"),
                         r"^layer 3 expert 0: \d+ uses, [\d.]+ % of the layer")

    def test_the_pointer_reads_a_picture(self):
        self.open("everything")
        box = self.run_script(
            "(() => { const e = document.querySelector('#entropy-by-layer .area');"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.left + b.width * 0.42, b.top + b.height / 2]; })()")
        self.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
        self.assertRegex(self.readout("entropy-by-layer"), r"^layer 3 .*Collapsed yes$")

    def test_a_spikes_ring_leads_to_what_is_known_of_it(self):
        self.open("everything")
        self.run_script("document.querySelector('.mark[href=\"#spike-2\"]').focus()")
        self.browser.press("Enter")
        self.assertEqual(self.run_script("document.querySelector(':target').id"), "spike-2")

    def test_everything_has_a_name(self):
        for page in PAGES:
            self.open(page)
            nameless = self.run_script(
                "[...document.querySelectorAll('.plot, .bar, .mark, .scroll, nav')]"
                ".filter(e => !(e.getAttribute('aria-label') || '').trim())"
                ".map(e => e.outerHTML.slice(0, 80))")
            self.assertEqual(nameless, [])
            self.assertEqual(self.run_script(
                "[...document.querySelectorAll('table')].filter(t => !t.caption).length"), 0)
            self.assertEqual(self.run_script(
                "[...document.querySelectorAll('.plot[data-table]')].filter(p => "
                "document.getElementById(p.dataset.table).tBodies[0].rows.length !== "
                "Number(p.dataset.count)).length"), 0)
            ids = self.run_script("[...document.querySelectorAll('[id]')].map(e => e.id)")
            self.assertEqual(len(ids), len(set(ids)))

    def test_texts_are_there_with_their_units(self):
        self.open("everything")
        self.assertEqual(self.run_script("document.querySelector('h1').textContent"),
                         "Run of synthetic-6x32.gguf")
        tiles = self.run_script("document.querySelector('#latency .tiles').innerText")
        for name in ("p50", "p90", "p99", "p99.9", "longest"):
            self.assertIn(name, tiles)
        self.assertEqual(tiles.count(" ms"), 5)
        text = self.run_script("document.body.innerText")
        for words in ("Layer 3 has collapsed", "evicted at step", "% of the 2.00 GB/s measured",
                      "waiting for the drive", "tokens/s"):
            self.assertIn(words, text)
        self.open("large")
        self.assertIn("<b>a-long-name", self.run_script("document.body.innerText"))

    def test_pictures_are_there_without_script(self):
        self.browser.call("Emulation.setScriptExecutionDisabled", value=True)
        try:
            self.open("everything")
            self.assertGreater(self.run_script("document.querySelectorAll('.area path').length"),
                               40)
        finally:
            self.browser.call("Emulation.setScriptExecutionDisabled", value=False)

    def readout(self, figure):
        return self.run_script(f"document.querySelector('#{figure} .readout').textContent")


if __name__ == "__main__":
    unittest.main()
