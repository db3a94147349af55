"""The page of an evaluation, and its pictures."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from evaluation_documents import ORGANS, document, entry, record
from PIL import Image

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation import figures, pictures, report
from FoBSAMLib.evaluation.pictures import Picture, draw, worst
from FoBSAMLib.prompts import Prompts

HOSTILE = "</title><script>alert('x')</script><img src=http://evil/x onerror=y> & $x_{ \"quoted\""
SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        """The values of an attribute."""
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]


def picture(dice: float = 0.4, **fields: Any) -> Picture:
    truth, found = np.zeros((2, 60, 80), bool)
    truth[20:40, 30:50] = found[25:45, 35:55] = True
    image = np.random.default_rng(0).normal(100, 20, truth.shape)
    points = np.array([[10, 10], [70, 50]], np.float32)
    prompts = Prompts(background=points, foreground=np.array([[42, 30]], np.float32))
    made = {
        "subject": 1,
        "organ": "liver",
        "method": "fobsam",
        "index": 7,
        "dice": dice,
        "confidence": 0.3,
        "image": image,
        "truth": truth,
        "found": found,
        "prompts": prompts,
    }
    return Picture(**{**made, **fields})


def interactive() -> dict[str, Any]:
    """Every part of a page: slices, further annotated slices, baselines."""
    random = np.random.default_rng(1)
    records = []
    for subject in (19, 20, 21):
        for organ in ORGANS:
            for count in (1, 2):
                slices = []
                for n in range(12):
                    confidence = round(float(random.random()), 4)
                    slices.append(
                        entry(n, round(min(1, confidence + random.random() / 2), 4), confidence)
                    )
                fields: dict[str, Any] = {"annotated": [5, 9][:count], "suggestion": "tool"}
                records.append(record(subject, organ, 0.8 + count / 20, **fields, slices=slices))
                fields |= {"method": "copy", "generator": "", "segmenter": ""}
                records.append(record(subject, organ, 0.5 + count / 20, **fields))
    return document("interactive", records)


def written(folder: Path, made: dict[str, Any], *shown: Picture) -> Page:
    report.write_html(made, folder / "report.html", shown)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with everything, for tests that only look."""
    folder = tmp_path_factory.mktemp("page")
    written(folder, interactive(), picture())
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_holds_summary_tables_figures_and_the_run(html):
    page = Page(html)
    for said in (
        "Trained on: chaos 1, 2, without organ labels.",
        "Dice, one annotated slice85.0 ± 0.0",
        "Against the best baseline+30.0",
        "0 of 12",
        "AUROC",
        "Annotated slices: 2",
        "Dice against annotated slices",
        "Is the confidence true",
        "Which slices to look at",
        "Worst slices",
        "fobsam evaluate chaos data",
        "fobsam 1.2.3",
        "sha256 ab12",
    ):
        assert said in page.text
    assert sum(tag == "svg" for tag, _ in page.elements) == 5


def test_the_page_needs_nothing_else_and_runs_nothing(html):
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object"}
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src"))
    assert not re.search(r"url\((?!#)|@import", html)
    # Links: the pictures' own files, and parts of a figure.
    links = page.values("href") + page.values("xlink:href")
    assert {link.split("/")[0] for link in links if not link.startswith("#")} == {"report_files"}


def test_figures_take_the_colour_of_the_page(html):
    for text in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        svg = ElementTree.fromstring(text)
        assert "currentColor" in text
        assert not re.search(r"#(000000|ffffff|010203)", text)
        assert {"viewBox", "role"} <= svg.attrib.keys()
        # Letters without a colour of their own would be black.
        for letters in svg.iter(f"{SVG}text"):
            assert "fill: currentColor" in letters.attrib["style"]


def test_a_figure_has_no_more_methods_than_colours():
    made = interactive()
    for method in ("registration", "walker", "a", "b", "c", "d", "e"):
        made["records"] += [record(19, "liver", 0.3, method=method, annotated=[5])]
    volumes = figures.build(made)[0]
    assert volumes.caption.endswith("2 further rows of the table are not shown.")
    assert volumes.svg.count("presence: own") == 6


def test_names_from_files_are_text_whatever_they_hold(tmp_path):
    made = interactive()
    for one in made["records"]:
        if one["organ"] == "liver":
            one["organ"] = HOSTILE
        if one["method"] == "copy":
            one["method"] = f"copy{HOSTILE}"
    made["question"]["organs"][0] = HOSTILE
    made["command"] = made["question"]["generators"][0] = made["versions"]["fobsam"] = HOSTILE
    made["notes"] = [HOSTILE]
    page = written(tmp_path, made, picture(organ=HOSTILE, method=HOSTILE))
    assert not {"script", "onerror"} & {tag for tag, _ in page.elements}
    assert page.values("onerror") == []
    assert all(source.startswith("data:") for source in page.values("src"))
    # In a paragraph, a table, a figure and the command alike.
    assert page.text.count(HOSTILE) > 5
    (file,) = (tmp_path / "report_files").iterdir()
    assert re.fullmatch(r"[a-z0-9_]+\.png", file.name)


def test_the_worst_slices_are_written_beside_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "WORST", 3)
    made = document("whole", [record(19, "liver", 0.9)])
    page = written(tmp_path, made, *(picture(n / 20, subject=n) for n in range(5)))
    folder = tmp_path / "report_files"
    files = sorted(file.name for file in folder.iterdir())
    assert files == [f"worst_0{n + 1}_{n}_liver_7.png" for n in range(3)]
    links = [link for link in page.values("href") if "worst" in link]
    assert links == [f"report_files/{name}" for name in files]
    assert len(page.values("src")) == 3
    (folder / "mine.png").write_bytes(b"kept")
    written(tmp_path, made, picture())
    assert sorted(file.name for file in folder.iterdir()) == ["mine.png", "worst_01_1_liver_7.png"]


def test_without_pictures_there_is_no_folder(tmp_path):
    page = written(tmp_path, document("whole", [record(19, "liver", 0.9)]))
    assert "Worst slices" not in page.text
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_page_before_the_first_subject(tmp_path):
    page = written(tmp_path, document("whole", [], subjects=[19], organs=["liver"]))
    assert "No subject has been evaluated yet." in page.text


def test_the_published_mean_and_the_ablation_are_on_the_page(tmp_path):
    records = [record(19, organ, 0.9, presence="given", fold="1") for organ in ORGANS]
    for points in (0, 5, 10):
        parts = {"points": points, "refinement": True, "context": points > 0}
        records.append(record(19, "liver", 0.7, method="ablation", ablation=parts))
    page = written(tmp_path, document("fob", records, setting="I"))
    assert "Against the published+5.54" in page.text
    assert "Ablation" in page.text
    assert "background points" in page.text


def test_organs_without_a_published_figure_have_a_page(tmp_path):
    records = [record(12, organ, 0.9, presence="given") for organ in ("spleen", "aorta")]
    page = written(tmp_path, document("fob", records, dataset="sabs"))
    assert "published FoB + SAM84.54––" in page.text


def test_a_page_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(FoBSAMError) as caught:
        report.write_html(interactive(), tmp_path / "missing" / "report.html", [picture()])
    assert caught.value.code == "unwritable"
    assert list(tmp_path.iterdir()) == []


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)


def shows(image: np.ndarray, color: str) -> bool:
    """Whether a few pixels have about that colour."""
    rgb = [int(color[n : n + 2], 16) for n in (1, 3, 5)]
    return int((np.abs(image - rgb).sum(axis=2) < 40).sum()) > 20


@pytest.mark.parametrize("color", [False, True])
def test_a_picture_shows_truth_result_and_prompts(color):
    fields = {"image": np.full((60, 80, 3), 0.5)} if color else {}
    image = pixels(draw(picture(**fields)))
    colors = (pictures.TRUTH, pictures.FOUND, pictures.FOREGROUND, pictures.BACKGROUND)
    assert all(shows(image, one) for one in colors)
    assert min(image.shape[:2]) > 400


@pytest.mark.parametrize(
    "fields",
    [
        {"truth": np.zeros((60, 80), bool)},
        {"truth": np.ones((60, 80), bool)},
        {"found": np.zeros((60, 80), bool), "prompts": Prompts(), "confidence": None},
        {
            "found": np.zeros((60, 80), bool),
            "truth": np.zeros((60, 80), bool),
            "prompts": Prompts(),
        },
        {"image": np.zeros((60, 80))},
        {"organ": "a $ sign_{", "spacing": (2.0, 1.0)},
    ],
)
def test_any_slice_can_be_drawn(fields):
    assert pixels(draw(picture(**fields))).size


def test_the_worst_are_of_different_organs_as_long_as_there_are_any():
    shown = [picture(0.1, index=n) for n in range(3)]
    shown += [picture(0.5, organ="spleen"), picture(0.3, subject=2)]
    assert [(p.dice, p.organ, p.subject) for p in worst(shown, 3)] == [
        (0.1, "liver", 1),
        (0.3, "liver", 2),
        (0.5, "spleen", 1),
    ]
    assert [p.dice for p in worst(shown, 4)] == [0.1, 0.1, 0.3, 0.5]
    assert len(worst(shown, 9)) == 5


def test_of_the_same_dice_the_larger_error_is_worse():
    small = picture(0.0, subject=1, truth=np.zeros((60, 80), bool))
    large = picture(0.0, subject=2, found=np.ones((60, 80), bool))
    assert [p.subject for p in worst([small, large], 1)] == [2]
