#!/usr/bin/env python3
"""Makes tokenizer_ids.json: what tiktoken, regex and sentencepiece make of the texts below.

Usage: tokenizer_ids.py DIR > tokenizer_ids.json, with DIR/{deepseek_v3,qwen,o200k_base}.tiktoken
and DIR/mistral_v1_mixtral.spm.model. Needs `pip install tiktoken regex sentencepiece`. The
expressions are written as the models publish them, not as our table writes them. The vocabularies
themselves are not kept here: a test builds them from the same files, where it finds them. A
pre-tokenization whose own vocabulary is not at hand is applied to another; what is tested is where
it cuts.
"""

import base64
import json
import sys

import regex
import sentencepiece
import tiktoken

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          + SPACES)
UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def cased(extra, tail):
    upper, lower = f"[{UPPER}{extra}]", f"[{LOWER}{extra}]"
    return (rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{CONTRACTIONS}?"
            rf"|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{CONTRACTIONS}?"
            r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+" + tail + "|" + SPACES)


DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"
    "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5"
    "\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a"
    "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3"
    "\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115"
    "\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149"
    "\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
    "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06"
    "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943")
DEEPSEEK_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

# (vocabulary, pre, stages)
CASES = [
    ("o200k_base", "gpt-2", [GPT2]),
    ("o200k_base", "starcoder", [r"\p{N}", GPT2]),
    ("o200k_base", "default", [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
    ("o200k_base", "llama-bpe", [LLAMA3]),
    ("o200k_base", "glm4", [LLAMA3]),
    ("qwen", "qwen2", [LLAMA3.replace("{1,3}", "")]),
    ("qwen", "qwen35", [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
                        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES]),
    ("o200k_base", "gpt-4o", [cased("", r"[\r\n/]*")]),
    ("o200k_base", "kimi-k2", [r"[\p{Han}]+|" + cased(r"&&[^\p{Han}]", r"[\r\n]*")]),
    ("deepseek_v3", "deepseek-v3", [
        r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"| ?[\p{P}\p{S}]+[\r\n]*|" + SPACES]),
    ("o200k_base", "deepseek-llm", [
        r"[\r\n]", rf"\s?[{DEEPSEEK_LETTERS}]+",
        "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", DEEPSEEK_CJK,
        r"\p{N}+"]),
    ("o200k_base", "deepseek-coder", [
        r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, r"\p{N}"]),
]

SENTENCEPIECE = "mistral_v1_mixtral"

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\t \n\n  \r\n x",
    "The lighthouse keeper counted seven ships, none of them hers.",
    "It's what they've said; I'd know, we're sure, he'll come, I'm here, don't.",
    "IT'S WHAT THEY'VE SAID; I'D KNOW, WE'RE SURE, HE'LL COME, I'M HERE, DON'T.",
    "a'\u017f b'\u017fome can\u2019t 'tis ''s 'x'y'd've",
    "1 12 123 1234 12345 123456 1234567.89 -0.5e-10 3,141,592 0x1F 2\u00b3 \u00bd \u2167",
    "\u0967\u0968\u0969\u096a \u0661\u0662\u0663\u0664 \uff11\uff12\uff13\uff14",
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];  // a dot product\n}\n\n\n",
    "def f(x):\n    if x is None:\n        return {'a': [1, 2], \"b\": x}\n    \n",
    "#include <vector>\n#define MAX_(a,b) ((a)>(b)?(a):(b))\r\n\r\n\t\tgoto end;\r\n",
    "https://example.org/path/to/page.html?query=1&b=%20c#part user@example.org",
    "CamelCaseWords HTTPServer parseXMLFile iPhone eBay McDonald XMLHttpRequest2Go aB Ab AB ab",
    "snake_case_name kebab-case-name SCREAMING_SNAKE $dollar @at #hash ~tilde ^caret `tick`",
    "\u0427\u0430\u0439\u043a\u0430 \u043b\u0435\u0442\u0438\u0442 \u041d\u0410\u0414 "
    "\u043c\u043e\u0440\u0435\u041c \u03b1\u03b2\u03b3 \u0391\u0392\u0393\u03b4\u03b5 "
    "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1",
    "\u01c5 \u01c4\u01c5\u01c6 \u00c5\u00e5 \u1e9e \u00df \ufb01n \u212a \u2126 stra\u00dfe "
    "STRASSE",
    "caf\u00e9 cafe\u0301 na\u00efve nai\u0308ve A\u030angstro\u0308m",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u6d77\u8fb9\u3002\u4ef7\u683c"
    "\u662f123\u5143\uff01",
    "\u6d77\u8fb9\u306e\u706f\u53f0\u3067\u3001\u30ab\u30e2\u30e1\u304c\u98db\u3076\u3002\u3005"
    "\u3007\u303b ABC\u6f22\u5b57def",
    "\ubc14\ub2e4\uac00 \ubcf4\uc774\ub294 \uc9d1, \ub4f1\ub300 3\uac1c.",
    "\u0938\u092e\u0941\u0926\u094d\u0930 \u0915\u0947 \u0915\u093f\u0928\u093e\u0930\u0947 "
    "\u0918\u0930",
    "\u0e40\u0e23\u0e37\u0e2d\u0e25\u0e33\u0e2b\u0e19\u0e36\u0e48\u0e07 "
    "\u0e17\u0e35\u0e48\u0e17\u0e30\u0e40\u0e25",
    "\u0627\u0644\u0628\u062d\u0631 \u0639\u0645\u064a\u0642\u064c "
    "\u0648\u0647\u0627\u062f\u0626. \u05d4\u05d9\u05dd \u05e9\u05c1\u05e7\u05d8",
    "\U0001f30a\U0001f469\u200d\U0001f680 \U0001f1eb\U0001f1f7\U0001f44d\U0001f3fd \u2764\ufe0f "
    "x\U0001f600y",
    "\u00a0no\u00a0break\u3000wide\u2003em\u2028line\u2029para\u0085next\u180evowel\u200bzero"
    "\ufeffmark",
    "a\u00a0\u00a0b \u3000\u3000 c\u2028\u2028\nd\x0b\x0ce \x1c\x1f f\x00g\x7f",
    "   leading and trailing   ",
    "a  b   c    d     e      f\t\tg\t\t\th \t \ti",
    "one\n\ntwo\n \nthree\n  \n  four\r\nfive\r\n\r\nsix\n\n\n\n\n\n\n\nseven   \n",
    "!!! ??? ... --- *** === +++ >>> <<< ||| &&& %%% ;;; ::: ,,, \"\"\" ''' ((( ))) [[[ ]]] {{{ "
    "}}}",
    "\u201cquoted\u201d \u2018single\u2019 \u2014 dash \u2013 \u2026 \u2022 \u00a7 \u00b6 \u20ac5 "
    "\u00a33 \u00a5100 \u00b0C \u00b11 \u00d72 \u2264 \u2200x\u2208\u211d",
    "\uff08\u5168\u89d2\uff09\uff0cABC\uff21\uff22\uff43\uff0e\u300c\u5f15\u7528\u300d\u3010"
    "\u6807\u9898\u3011\uff5e\uff01\uff1f",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Zyxwvutsrqponmlkjihgfedcba pneumonoultramicroscopicsilicovolcanoconiosis xqzjkvbw",
    "9999999999999999999999999999999999999999",
    "                                                                \n                x",
    "<|im_start|>user\nplain text that looks like markup<|im_end|>\n<think></think>",
    "/usr/local/bin/\n//comment\n/**/\n\\path\\to\\file\\n \\u0041",
    "\U00010400\U00010428\U0001d400\U0001d54f \u2c00\u2c30 \u13a0\uab70 \u10a0\u2d00 \u1c90",
    "\u0300alone \u0301\u0302 x\u0300\u0301y \u20ddz a\u20dd 5\u0300",
    "\u2581a \u2581\u2581b",
    "x=1;y=2;if(x==y){return!x;}else{x<<=2;}",
    "- item one\n- item two\n  - nested\n1. first\n2. second\n\n| a | b |\n|---|---|\n",
]


def gpt2_alphabet():
    """GPT-2's printable character for each byte, as a map from character to byte."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + i): b for i, b in enumerate(others)}


def load(directory, name):
    with open(f"{directory}/{name}.tiktoken", encoding="ascii") as lines:
        ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in lines)}
    if name != "deepseek_v3":
        return ranks
    # This file holds the printable texts of a vocabulary, three special tokens first.
    alphabet = gpt2_alphabet()
    return {bytes(alphabet[c] for c in text.decode()): rank
            for text, rank in ranks.items() if rank > 2}


def split(stages, text):
    """Each stage cuts every piece of the former into its matches and the gaps between them."""
    pieces = [text] if text else []
    for stage in stages:
        # Version 1 has class intersection, and would misread plain classes that look like it.
        compiled = regex.compile(stage, regex.V1 if "&&" in stage else regex.V0)
        cut = []
        for piece in pieces:
            done = 0
            for match in compiled.finditer(piece):
                cut += [piece[done:match.start()], match.group()]
                done = match.end()
            cut.append(piece[done:])
        pieces = [piece for piece in cut if piece]
    return pieces


def main():
    ranks = {name: load(sys.argv[1], name) for name in {case[0] for case in CASES}}
    out = []
    for name, pre, stages in CASES:
        whole = tiktoken.Encoding(name, pat_str=r"(?s:.+)", mergeable_ranks=ranks[name],
                                  special_tokens={})
        ids = [[i for piece in split(stages, text) for i in whole.encode_ordinary(piece)]
               for text in TEXTS]
        if len(stages) == 1:  # tiktoken's own engine must agree
            one = tiktoken.Encoding(name, pat_str=stages[0], mergeable_ranks=ranks[name],
                                    special_tokens={})
            for text, expected in zip(TEXTS, ids):
                assert one.encode_ordinary(text) == expected, (pre, text)
        out.append({"vocabulary": name, "pre": pre, "ids": ids})
    pieces = sentencepiece.SentencePieceProcessor(f"{sys.argv[1]}/{SENTENCEPIECE}.spm.model")
    out.append({"vocabulary": SENTENCEPIECE, "pre": "",
                "ids": [pieces.encode(text) for text in TEXTS]})
    lines = [json.dumps(text) for text in TEXTS]
    print('{"texts": [\n' + ",\n".join(lines) + '\n],\n"cases": [')
    print(",\n".join(
        f'{{"vocabulary": "{case["vocabulary"]}", "pre": "{case["pre"]}", "ids": [\n'
        + ",\n".join(json.dumps(ids, separators=(",", ":")) for ids in case["ids"]) + "]}"
        for case in out))
    print("]}")


main()
