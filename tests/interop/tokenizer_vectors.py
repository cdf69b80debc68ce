# tests/interop/tokenizer_vectors.py -- small tokenizers, and the ids that Hugging Face's library gives.
# SPDX-License-Identifier: Apache-2.0
"""tokenizer_vectors.py TEXT GOLDEN [--record]

GOLDEN has o200k.json, gpt2.json and ids.json, the recording: texts of every kind and their ids. The library must still give
these. With --record all three are made anew: TEXT and some lines in other scripts teach the merges. families.json has what
other families have in the place of parts of o200k.json, and their ids, with the tokens that begin a text: --record-families.
characters.json is a tokenizer like that of Llama 2 and Mixtral, which fall back to bytes, and character_ids.json what it and
variants of it make of the same texts: --record-characters.
"""
import json
import pathlib
import random
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from common import package_versions, require

# The expression of MiniMax-M2's tokenizer, which is that of o200k.
SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = "|".join([rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SUFFIX}", rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SUFFIX}",
                  r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
LINES = ["Каждый охотник желает знать, где сидит фазан.", "ДокументПродажиТоваровУслуг", "ἐν ἀρχῇ ἦν ὁ λόγος",
         "בְּרֵאשִׁית בָּרָא אֱלֹהִים", "في البدء خلق الله", "天地玄黃，宇宙洪荒。", "いろはにほへと ちりぬるを", "모든 사람은 자유로우며",
         "ǅungla ŒUVRE naïve café e\u0301tude Straße İstanbul", "٣٤٥ ४५६ Ⅷ ½ x² 1234567", "👩‍👩‍👧 🏴󠁧󠁢󠁷󠁬󠁳󠁿 ☂️"]
EDGES = ["", " ", "\n", "\r\n\r\n  x", "a\u00a0b\u2003c", "don't DON'T they'LL we'Re I'm 'tis", "a  b   c    \n\n\t d ",
         "x/y//z\n/", "0 00 000 0000 00000", "<|end|><|end|>", "a<|end|>b <|e|>nd|>", "<mask>ed <mask>", "\x00\x01\x7f",
         "e\u0301e\u0301 \u0301", "\ufeffbom", "\U0010ffff\ue000", "aB Ab AB ab aBC ABc", "....!?\n\n/…—–"]


# What the published tokenizer.json of these families has; the special token is one of ours.
CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{CASES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{REST}"
QWEN = rf"{CASES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{REST}"
DEEPSEEK = [r"\p{N}{1,3}", r"[一-龥\u3040-ゟ゠-ヿ]+",
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]


def splits(*expressions):
    parts = [dict(type="Split", pattern=dict(Regex=e), behavior="Isolated", invert=False) for e in expressions]
    return dict(type="Sequence", pretokenizers=parts + [
        dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)])


def begins_with(token, id):
    text, special = dict(Sequence=dict(id="A", type_id=0)), dict(SpecialToken=dict(id=token, type_id=0))
    return dict(type="Sequence", processors=[
        dict(type="ByteLevel", add_prefix_space=True, trim_offsets=False, use_regex=True),
        dict(type="TemplateProcessing", single=[special, text], pair=[special, text, dict(Sequence=dict(id="B", type_id=1))],
             special_tokens={token: dict(id=token, ids=[id], tokens=[token])})])


def families(end):
    return {"llama3": dict(pre_tokenizer=splits(LLAMA3), post_processor=begins_with("<|end|>", end)),
            "qwen": dict(normalizer=dict(type="NFC"), pre_tokenizer=splits(QWEN)),
            "deepseek": dict(pre_tokenizer=splits(*DEEPSEEK), post_processor=begins_with("<|end|>", end))}


def record_families(golden):
    base = json.loads((golden / "o200k.json").read_text())
    end = next(token["id"] for token in base["added_tokens"] if token["content"] == "<|end|>")
    texts = [case["text"] for case in json.loads((golden / "ids.json").read_text())["cases"]]
    recording = dict(versions=package_versions("tokenizers"), families={})
    for name, changes in families(end).items():
        made = Tokenizer.from_str(json.dumps({**base, **changes}))
        recording["families"][name] = dict(changes=changes, ids=[made.encode(text).ids for text in texts])
    (golden / "families.json").write_text(json.dumps(recording, ensure_ascii=True, separators=(",", ":")) + "\n")


def check_families(golden):
    base = json.loads((golden / "o200k.json").read_text())
    texts = [case["text"] for case in json.loads((golden / "ids.json").read_text())["cases"]]
    for name, family in json.loads((golden / "families.json").read_text())["families"].items():
        made = Tokenizer.from_str(json.dumps({**base, **family["changes"]}))
        for text, ids in zip(texts, family["ids"], strict=True):
            require(made.encode(text).ids == ids, f"{name}: {text!r}: {made.encode(text).ids}, recorded: {ids}")


BLANK = "\u2581"


def metaspace(scheme, split):
    return dict(normalizer=None, pre_tokenizer=dict(type="Metaspace", replacement=BLANK, prepend_scheme=scheme, split=split))


# As published (Prepend and Replace), and as newer versions of transformers write it.
CHARACTERS = {"prepend": {}, "first": metaspace("first", False), "always_split": metaspace("always", True),
              "never": metaspace("never", False)}


def train_characters(text):
    """Few characters are tokens, so that others become bytes; those of merges are in the order of a trainer."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", BLANK)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(BLANK, "always", True)
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=760, show_progress=False, limit_alphabet=90,
                                  special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)])
    tokenizer.train_from_iterator([text] + LINES * 3, trainer)
    made = json.loads(tokenizer.to_str())
    made["added_tokens"] = [token for token in made["added_tokens"] if token["content"] in special]
    made["normalizer"] = dict(type="Sequence", normalizers=[
        dict(type="Prepend", prepend=BLANK), dict(type="Replace", pattern=dict(String=" "), content=BLANK)])
    made["pre_tokenizer"] = None
    made["post_processor"] = begins_with("<s>", 1)["processors"][1]
    made["decoder"] = dict(type="Sequence", decoders=[
        dict(type="Replace", pattern=dict(String=BLANK), content=" "), dict(type="ByteFallback"), dict(type="Fuse"),
        dict(type="Strip", content=" ", start=1, stop=0)])
    return made


def character_texts(golden):
    texts = [case["text"] for case in json.loads((golden / "ids.json").read_text())["cases"]]
    return texts + ["</s>", "a</s> b</s>c", "  two", " one", BLANK, f"x {BLANK} y", "<0x41>", "\ta\u0000"]


def record_characters(text, golden):
    base = train_characters(text)
    (golden / "characters.json").write_text(json.dumps(base, ensure_ascii=False, separators=(",", ":")) + "\n")
    recording = dict(versions=package_versions("tokenizers"), texts=character_texts(golden), variants={})
    for name, changes in CHARACTERS.items():
        made = Tokenizer.from_str(json.dumps({**base, **changes}))
        ids = [made.encode(t).ids for t in recording["texts"]]
        back = [made.decode(i, skip_special_tokens=False) for i in ids]
        recording["variants"][name] = dict(changes=changes, ids=ids, back=back)
    (golden / "character_ids.json").write_text(json.dumps(recording, ensure_ascii=True, separators=(",", ":")) + "\n")


def check_characters(golden):
    base = json.loads((golden / "characters.json").read_text())
    recording = json.loads((golden / "character_ids.json").read_text())
    for name, variant in recording["variants"].items():
        made = Tokenizer.from_str(json.dumps({**base, **variant["changes"]}))
        for text, ids, back in zip(recording["texts"], variant["ids"], variant["back"], strict=True):
            require(made.encode(text).ids == ids, f"{name}: {text!r}: {made.encode(text).ids}, recorded: {ids}")
            require(made.decode(ids, skip_special_tokens=False) == back, f"{name}: {text!r} comes back otherwise")


def train(text, pre_tokenizer, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator([text] + LINES * 3, trainer)
    tokenizer.add_special_tokens(["<|end|>", "<|e|>"])
    tokenizer.add_tokens([AddedToken("<mask>", normalized=True), AddedToken("<mask>ed", normalized=True)])
    return tokenizer


def texts(text):
    rng = random.Random(1)
    yield from EDGES
    yield from LINES
    for _ in range(40):
        begin = rng.randrange(len(text) - 80)
        yield text[begin:begin + 80]
    pool = "".join(EDGES + LINES) + "'''   \n\r\tsStTdD"
    for _ in range(140):
        yield "".join(rng.choice(pool) for _ in range(rng.randrange(1, 24)))


def main():
    text = pathlib.Path(sys.argv[1]).read_text()
    golden = pathlib.Path(sys.argv[2])
    if sys.argv[3:] == ["--record"]:
        golden.mkdir(parents=True, exist_ok=True)
        split = pre_tokenizers.Split(Regex(O200K), "isolated")
        both = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        train(text, both, ignore_merges=True).save(str(golden / "o200k.json"), pretty=False)
        train(text, pre_tokenizers.ByteLevel(add_prefix_space=False)).save(str(golden / "gpt2.json"), pretty=False)
        cases = [dict(text=t) for t in texts(text)]
        for name in ("o200k", "gpt2"):
            made = Tokenizer.from_file(str(golden / f"{name}.json"))
            for case in cases:
                case[name] = made.encode(case["text"], add_special_tokens=False).ids
        recording = dict(versions=package_versions("tokenizers"), cases=cases)
        (golden / "ids.json").write_text(json.dumps(recording, ensure_ascii=True, separators=(",", ":")) + "\n")
    for name in ("o200k", "gpt2"):
        made = Tokenizer.from_file(str(golden / f"{name}.json"))
        for case in json.loads((golden / "ids.json").read_text())["cases"]:
            ids = made.encode(case["text"], add_special_tokens=False).ids
            require(ids == case[name], f"{name}: {case['text']!r}: {ids}, recorded: {case[name]}")
            require(made.decode(ids, skip_special_tokens=False) == case["text"], f"{name}: {case['text']!r} does not come back")
    if sys.argv[3:] in (["--record"], ["--record-families"]):
        record_families(golden)
    if sys.argv[3:] in (["--record"], ["--record-characters"]):
        record_characters(text, golden)
    check_families(golden)
    check_characters(golden)
    print(f"tokenizers {tokenizers.__version__}: ids as recorded")


if __name__ == "__main__":
    main()
