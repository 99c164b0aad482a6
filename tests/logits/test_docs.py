"""The page's reader, as it stands there, reads what we write."""

import re
from pathlib import Path

import numpy as np
from tests.logits.made import SPEC, fill, sequences

from codestill.logits import LogitCache, finish

PAGE = Path(__file__).parents[2] / "docs" / "logit-cache.md"


def test_the_reader_of_the_page_agrees_with_ours(tmp_path: Path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if "def read_cache" in block]
    assert len(block.splitlines()) < 60
    assert "codestill" not in block
    names: dict = {}
    exec(block, names)
    fill(tmp_path, sequences(20))
    finish(tmp_path)
    cache = LogitCache.open(tmp_path)
    for temperature in SPEC.temperatures:
        seen = set()
        for digest, tokens, prompt, rows in names["read_cache"](tmp_path, temperature):
            seen.add(digest)
            assert cache.tokens(digest) == (tokens, prompt)
            ours = cache.targets([digest], temperature)
            assert len(rows) == len(ours)
            for row, (ids, p, tail, samples) in enumerate(rows):
                k = len(ids)
                assert ours.ids_NK[row, :k].tolist() == ids.tolist()
                np.testing.assert_allclose(np.exp(ours.log_probabilities_NK[row, :k]), p, rtol=1e-5)
                assert (ours.log_probabilities_NK[row, k:] == -np.inf).all()
                np.testing.assert_allclose(np.exp(ours.log_tail_N[row]), tail, rtol=1e-4)
                assert ours.samples_NM is not None
                assert ours.samples_NM[row].tolist() == samples.tolist()
        assert seen == set(cache)
