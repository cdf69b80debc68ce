# tests/interop/check_tokenizers.py -- published tokenizers: our ids against those of their own libraries.
# SPDX-License-Identifier: Apache-2.0
"""check_tokenizers.py MXFP4_TOKENIZER_IDS FOLDER_OF_TEXTS

Mistral's sentencepiece models, which are files of the package mistral-common: that of Mistral 7B and Mixtral (v1), and those
with control tokens (v2, v3, v7). transformers converts each to a tokenizer.json, with Metaspace in each of its schemes; the form
that Llama 2 and Mixtral are published in has the normalizers Prepend and Replace in its place. OpenAI's o200k_harmony, that of
gpt-oss: the package quicktok-v1 has its table, and tiktoken, which knows the hash of what OpenAI published, makes sure of that.

Of every text our ids must be those of Hugging Face's tokenizers on that file, and of sentencepiece (with Prepend) or tiktoken
themselves; and the ids must give the same text back. tekken.json, a form of Mistral's own, is none that is read here.
"""
import base64
import hashlib
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
from importlib.resources import files

import sentencepiece
import tiktoken
from tokenizers import Tokenizer, processors
from transformers import LlamaTokenizer
from transformers.convert_slow_tokenizer import SentencePieceExtractor, TikTokenConverter, generate_merges

from common import print_versions, require

BLANK = "\u2581"
MODELS = [
    "tokenizer.model.v1", "mistral_instruct_tokenizer_240216.model.v2", "mistral_instruct_tokenizer_240323.model.v3",
    "mistral_instruct_tokenizer_241114.model.v7"]
# transformers' options; the first has Prepend and Replace afterwards.
FORMS = {"prepend": dict(legacy=True), "always": dict(legacy=True), "first": dict(legacy=False),
         "never": dict(legacy=False, add_prefix_space=False)}
PREPEND = dict(type="Sequence", normalizers=[dict(type="Prepend", prepend=BLANK),
                                             dict(type="Replace", pattern=dict(String=" "), content=BLANK)])
BEGIN = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
LANGUAGES = [
    "The quick brown fox jumps over the lazy dog.", "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Voix ambiguë d’un cœur qui, au zéphyr, préfère les jattes de kiwis.",
    "El pingüino Wenceslao hizo kilómetros bajo la lluvia.", "Pójdźże, kiń tę chmurność w głąb flaszy!",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.", "Bu İstanbul'da ılık bir gün.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה.", "بِسْمِ ٱللّٰهِ نص حكيم له سر قاطع",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा", "আমি বাংলায় গান গাই", "நான் தமிழ் பேசுகிறேன்",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า", "ကျွန်ုပ်တို့", "視野無限廣，窗外有藍天。", "我能吞下玻璃而不伤身体。", "いろはにほへと ちりぬるを、ﾊﾝｶｸ カタカナ",
    "키스의 고유조건은 입술끼리 만나야 하고", "Tôi có thể ăn thủy tinh mà không hại gì.", "ᚠᛇᚻ᛫ᛒᛦᚦ ᓀᐦᐃᔭᐍ ⠓⠑⠇⠇⠕"]
EDGES = [
    "", " ", "  ", "   a", "a ", "a  ", " a  b   c    d     e", "\t", "\n", "\n\n\n", "\r\n", " \n \t \r ",
    "a\u00a0b\u2003c\u3000d", "\u200b\u200d\ufeff", "\x00", "a\x00b", "\x01\x02\x1b[0m\x7f\x80\x9f", BLANK, BLANK * 3,
    f"{BLANK}a", f" {BLANK} a", f"a{BLANK}b {BLANK}", "😀", "👩‍👩‍👧‍👦 🏴󠁧󠁢󠁷󠁬󠁳󠁿 🇩🇪 ☂️ 👍🏽", "e\u0301 é \u0301", "ﬁ ﬃ Ⅷ ½ x² ™",
    "𝕳𝖊𝖑𝖑𝖔 𐍈 𓀀", "\U0010ffff\ue000\ufffd\uffff", "<0x41>", "<0x0A>a", "<unk", "s> </", "[INST", "0 00 000 1234567890",
    "don't DON'T they'LL", "https://example.org/a?b=c&d=%20#e", "x = {'a': [1, 2.5e-3], \"b\": None}  # comment",
    "def f(x):\n    return x\n\n\n\tif x:\n", "\\(\\frac{a}{b}\\) $x^2$", "____----====....",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababababab", "ＦＵＬＬ　ＷＩＤＴＨ"]
SPECIAL = [
    "<s>", "</s>", "<unk>", "a<s>b", "a </s> b", " <s> x</s>", "<s><s>  </s>y", "[INST] hello [/INST] there</s>",
    "a[INST]b[/INST]  c", "<|start|>user<|message|>Hello<|end|><|start|>assistant", "a <|end|> b<|endoftext|>", "<|end|",
    "<|reserved_200777|>"]


def texts(folder):
    rng = random.Random(1)
    yield from LANGUAGES + EDGES + SPECIAL
    yield " ".join(LANGUAGES)
    yield "\n".join(EDGES)
    for repeated in ("a", " ", "ab", BLANK, "\n", "é", "😀", "the ", "0"):
        yield repeated * 3000
    for file in sorted(pathlib.Path(folder).rglob("*.md")):
        text = file.read_text()
        yield text
        for _ in range(20):
            begin = rng.randrange(len(text))
            yield text[begin:begin + rng.randrange(1, 200)]
    pool = "".join(LANGUAGES + EDGES) + " " * 60
    for _ in range(1500):
        yield "".join(rng.choice(pool) for _ in range(rng.randrange(1, 40)))
    for _ in range(500):  # any characters but halves of pairs
        points = (rng.choice([rng.randrange(0x80), rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]) for _ in range(20))
        yield "".join(map(chr, points))


def convert_sentencepiece(model, form):
    """What transformers makes of a sentencepiece model, with the token that begins a text, as published."""
    extractor = SentencePieceExtractor(str(model))
    parts = extractor.extract(None)
    # Its merges have the order of ids; published files have that of scores, as sentencepiece merges.
    merges = generate_merges(parts["vocab"], {piece.piece: piece.score for piece in extractor.proto.pieces})
    special = dict(additional_special_tokens=parts["additional_special_tokens"])
    made = LlamaTokenizer(parts["vocab"], merges, **special, **FORMS[form]).backend_tokenizer
    made.post_processor = BEGIN
    scheme = json.loads(made.to_str())["pre_tokenizer"]["prepend_scheme"]
    require(scheme == form or form == "prepend", f"transformers made {scheme}, expected {form}")
    if form == "prepend":
        made = Tokenizer.from_str(json.dumps({**json.loads(made.to_str()), "normalizer": PREPEND, "pre_tokenizer": None}))
    return made


def convert_o200k(folder):
    """The table of quicktok: a count, then of each token its length, its bytes and its rank. As OpenAI publishes it: lines."""
    table, at, lines = (files("quicktok") / "data" / "o200k.vocab").read_bytes(), 4, []
    while at < len(table):
        size, = struct.unpack_from("<H", table, at)
        rank, = struct.unpack_from("<I", table, at + 2 + size)
        lines.append((rank, base64.b64encode(table[at + 2:at + 2 + size]) + b" %d\n" % rank))
        at += 6 + size
    url = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    file = pathlib.Path(folder, hashlib.sha1(url.encode()).hexdigest())  # where tiktoken looks before it downloads
    file.write_bytes(b"".join(line for _, line in sorted(lines)))
    os.environ["TIKTOKEN_CACHE_DIR"] = folder
    peer = tiktoken.get_encoding("o200k_harmony")
    special = {id: token for token, id in sorted(peer._special_tokens.items())}
    made = TikTokenConverter(str(file), peer._pat_str, extra_special_tokens=[special[id] for id in sorted(special)]).converted()
    return made, peer


def check(program, name, made, given, peer, least):
    """peer: of a text the ids that the model's own library gives, or None where it has no say; `least` of them."""
    rng = random.Random(2)
    drawn = [[rng.randrange(made.get_vocab_size()) for _ in range(rng.randrange(1, 12))] for _ in range(500)]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, inputs = pathlib.Path(folder, "tokenizer.json"), pathlib.Path(folder, "inputs.json")
        made.save(str(tokenizer))
        inputs.write_text(json.dumps(given + drawn))
        ran = subprocess.run([program, tokenizer, inputs], capture_output=True, text=True)
    if "without Oniguruma" in ran.stderr:
        print(f"{name}: skipped, the program has no regular expressions")
        return
    require(ran.returncode == 0, f"{name}: {ran.stderr}")
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    require(len(answers) == len(given) + len(drawn), f"{name}: {len(answers)} answers")
    by_peer = decoded = 0
    for text, answer in zip(given, answers):
        expected, shown = made.encode(text).ids, f"{name}: {text[:200]!r}"
        require(answer["ids"] == expected, f"{shown}: {answer['ids']}, expected {expected}")
        back = bytes.fromhex(answer["back"]).decode()
        require(back == made.decode(expected, skip_special_tokens=False), f"{shown} comes back as {back!r}")
        if (ids := peer(text)) is not None:
            require(answer["ids"] == ids, f"{shown}: {answer['ids']}, its own library: {ids}")
            by_peer += 1
    require(by_peer >= least, f"{name}: only {by_peer} texts went through its own library")
    for ids, answer in zip(drawn, answers[len(given):], strict=True):
        expected = made.decode(ids, skip_special_tokens=False)
        if "\ufffd" not in expected:  # which bytes of no character become
            back = bytes.fromhex(answer["back"]).decode()
            require(back == expected, f"{name}: {ids} is {back!r}, expected {expected!r}")
            decoded += 1
    require(decoded > 250, f"{name}: only {decoded} lists of ids are texts")
    print(f"{name}: {len(given)} texts as tokenizers has them, {by_peer} as its own library; {decoded} lists of ids decoded",
          flush=True)


def main():
    program, folder = sys.argv[1:]
    given = list(texts(folder))
    for name in MODELS:
        model = files("mistral_common") / "data" / name
        require(model.is_file(), f"mistral-common has no {name}")
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
        for form in FORMS:
            made = convert_sentencepiece(model, form)
            special = [token.content for token in made.get_added_tokens_decoder().values()]

            def by_pieces(text):
                """It puts a blank before every text but the empty one, and knows no control token in a text."""
                plain = form == "prepend" and text and not any(token in text for token in special)
                return [1] + pieces.encode(text) if plain else None

            check(program, f"{name}, {form}", made, given, by_pieces, 2000 if form == "prepend" else 0)
    with tempfile.TemporaryDirectory() as cache:
        made, peer = convert_o200k(cache)
        check(program, "o200k_harmony", made, given, lambda text: peer.encode(text, allowed_special="all"), len(given))
    print_versions("mistral-common", "quicktok-v1", "sentencepiece", "tiktoken", "tokenizers", "transformers")


if __name__ == "__main__":
    main()
