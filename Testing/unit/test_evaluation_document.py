"""Records are taken up again only where they go together with new ones."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
from evaluation_documents import document, record

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.cases import Case
from FoBSAMLib.evaluation.document import take_over, threads

VERSIONS = {"fobsam": "1.2.3", "code": "abc"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda made: None, ""),
        # Whom the weights serve is no part of the question: more subjects may be added.
        (lambda made: made["models"]["generators"]["fob-lite"][0].update(serves={}), ""),
        (lambda made: made["versions"].update(fobsam="1.2.2"), r"another version .*1\.2\.2"),
        (lambda made: made["versions"].update(code="abd"), "another version .*code abd"),
        (lambda made: made["versions"].pop("code"), "another version .*code unknown"),
        (lambda made: made["models"]["generators"]["fob-lite"][0].update(sha256="b"), "models"),
        (lambda made: made["models"]["segmenters"]["compact"].update(sha256="b"), "models"),
        (lambda made: made["question"].update(setting="I"), "another question"),
        (lambda made: made.pop("versions"), "not the result of an evaluation"),
    ],
)
def test_only_what_the_same_code_and_weights_found_is_taken_over(tmp_path, changed, said):
    made = document("whole", [record(19, "liver", 0.9)], versions=VERSIONS)
    earlier = deepcopy(made)
    changed(earlier)
    file = tmp_path / "a.json"
    file.write_text(json.dumps(earlier), encoding="utf-8")
    new = {**made, "records": []}
    if said:
        with pytest.raises(FoBSAMError, match=said):
            take_over(new, file, [Case(19, 3)])
        assert new["records"] == []
    else:
        take_over(new, file, [Case(19, 3), Case(20, 3)])
        assert new["records"] == made["records"]


@pytest.mark.parametrize(
    ("wanted", "given"), [("1", 1), ("3", 3), ("3,2", 3), ("", 4), ("0", 4), ("many", 4)]
)
def test_as_many_threads_as_the_user_wants_else_a_share_of_the_cores(monkeypatch, wanted, given):
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert threads(2) == given
