"""The report: whole without a network, harmless, and true to its rows."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from classic_rows import CLASSICS, SOURCE, SYSTEM, known, timed
from test_charts import named
from test_names import HOSTILE as NAMES
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement
from vertebra.reading import reports
from vertebra.reading.reports.markup import Html, tag
from vertebra.reading.reports.networks import forms

VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = "<script>alert('&\"')</script>"

PRINTED = Measurement(
    model="vgg11",
    metric="operations",
    value=15.09e9,
    origin="published",
    input_size=224,
    source="the page",
    convention="fully connected layers once",
    disputed="the true figure is 15,218,180,096",
)
FAILURE = Measurement(
    model="senet154_vd",
    metric="failure",
    value=1,
    origin="benched",
    system=SYSTEM,
    engine="ncnn",
    batch_size=1,
    input_size=224,
    grade_reasons=("out of memory at 3.9 GB",),
)
THERE = Measurement(
    model="alexnet",
    metric="latency",
    value=0.001176,
    origin="published",
    source="the page",
    system="nvidia-v100",
    device="cuda",
    batch_size=1,
    input_size=224,
    precision="float32",
)


class Page(HTMLParser):
    """A parsed page: that every element is closed, and what there is of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.faults: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def page() -> str:
    rows = [*known(), *timed(), *timed("eager", 1.4), PRINTED, FAILURE, THERE]
    system = {
        "id": SYSTEM,
        "cpu": "Box 2000",
        "architecture": "x86_64",
        "physical_cores": 2,
        "usable_cores": 2,
        "memory_bytes": 8_000_000_000,
        "gpus": [{"name": "Card 9"}],
        "os": "Linux",
    }
    pick = [("vgg16 on eager", ["Because it is asked for."]), ("Runner-up: alexnet", ["12.1 ms"])]
    return reports.html(rows, title="The title", system=system, pick=pick, made_at="2026-07-02")


def test_every_element_is_closed_and_every_link_inside_leads_somewhere(page):
    parsed = Page(page)
    assert not parsed.faults
    assert not parsed.open
    names = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(names) == len(set(names))
    targets = [attributes["href"] for attributes in parsed.all("a")]
    assert len(targets) > 6
    assert all(target[1:] in names for target in targets)


def test_nothing_is_asked_of_a_network(page):
    parsed = Page(page)
    for name, attributes in parsed.elements:
        assert name not in ("link", "iframe", "img", "object", "embed")
        for attribute in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert (attributes.get(attribute) or "#").startswith("#")
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\s*\(", page)


def test_the_page_is_small(page):
    assert len(page.encode()) < 300_000


def test_headings_language_and_images_have_names(page):
    parsed = Page(page)
    assert parsed.all("html") == [{"lang": "en"}]
    assert len(parsed.all("h1")) == len(parsed.all("main")) == len(parsed.all("title")) == 1
    pictures = parsed.all("svg")
    assert len(pictures) == 4  # operations, two engines' latency, density
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    assert all(section["aria-labelledby"] for section in parsed.all("section"))


def test_columns_are_sorted_with_buttons_by_numbers(page):
    parsed = Page(page)
    named = [button for button in parsed.all("button") if "id" in button]  # the explorer's, in no table
    assert len(parsed.all("button")) - len(named) == len(
        [heading for heading in parsed.all("th") if heading.get("scope") == "col"]
    )
    values = [cell["data-value"] for cell in parsed.all("td") if "data-value" in cell]
    assert str(0.0121) in values
    assert "aria-sort" in page


def test_machine_date_versions_and_pick_are_told(page):
    text = Page(page).text
    for told in (
        "The title",
        "Box 2000",
        "8.00 GB",
        "Card 9",
        "onnxruntime 1.22.0",
        "2026-07-01",
        "2026-07-02",
        "vgg16 on eager",
        "Because it is asked for.",
        "Runner-up: alexnet",
    ):
        assert told in text


def test_figures_stand_with_interval_grade_and_reasons(page):
    text = Page(page).text
    assert "12.1 ms B 11.7 ms – 12.7 ms" in text
    assert "121 ms C 117 ms – 127 ms" in text
    assert "23 samples of 64: budget spent" in text


def test_failures_are_told_with_their_reasons(page):
    assert "out of memory at 3.9 GB" in Page(page).text
    assert "No case failed." in Page(reports.html([*known(), *timed()])).text


def test_published_counts_stand_beside_true_ones_with_rule_and_dispute(page):
    text = Page(page).text
    assert "15,090,000,000" in text
    assert "15,218,180,096" in text
    assert "-0.84 %" in text
    assert "fully connected layers once" in text
    assert "the true figure is 15,218,180,096" in text


def test_a_published_latency_is_not_mixed_with_measured_ones(page):
    parsed = Page(page)
    assert "nvidia-v100" in parsed.text
    groups = [heading for heading in parsed.all("th") if heading.get("scope") == "colgroup"]
    assert len(groups) == 2
    assert not any("nvidia-v100" in (picture["aria-label"] or "") for picture in parsed.all("svg"))


def test_the_glossary_explains_what_is_there(page):
    text = Page(page).text
    assert "exactly twice" in text
    assert "Time of the very first forward pass" not in text


@pytest.mark.parametrize(
    "place", ["model", "source", "engine", "reason", "title", "pick", "system", "disputed"]
)
def test_hostile_text_is_shown_and_never_run(place):
    rows = [*known(), *timed()]
    if place == "model":
        rows = [replace(row, model=HOSTILE) if row.model == "vgg11" else row for row in rows]
    if place == "source":
        rows = [replace(row, source=HOSTILE) if row.source == SOURCE else row for row in rows]
    if place == "engine":
        rows = [replace(row, engine=HOSTILE) if row.engine else row for row in rows]
    if place == "reason":
        rows = [replace(row, grade_reasons=(HOSTILE,)) if row.grade == "C" else row for row in rows]
    if place == "disputed":
        rows.append(replace(PRINTED, disputed=HOSTILE, convention=HOSTILE))
    page = reports.html(
        rows,
        title=HOSTILE if place == "title" else "A title",
        pick=[(HOSTILE, [HOSTILE])] if place == "pick" else [],
        system={"id": HOSTILE, "cpu": HOSTILE} if place == "system" else None,
    )
    parsed = Page(page)
    code = [script for script in parsed.all("script") if script["type"] != "application/json"]
    assert len(code) == 2  # the page's own, and the explorer's
    assert "alert(" in parsed.text
    assert not parsed.faults
    assert not parsed.open


def test_a_table_of_citations_alone_makes_a_page():
    page = reports.html(row for row in known() if row.origin == "published")
    text = Page(page).text
    assert "nothing has been measured yet" in text
    assert "No chart of operations and top-1 accuracy and parameters" in text
    assert "81.4 %" in text


def test_an_empty_table_makes_a_page():
    parsed = Page(reports.html([]))
    assert not parsed.faults
    assert "0 networks" in parsed.text


def test_forms_are_told_apart_by_all_conditions_but_the_native_size():
    from vertebra.measurements import wide

    rows = [*known(), *timed(), *timed("eager"), *timed(batch_size=8), THERE]
    found = forms(wide(rows))
    assert [(form.conditions["engine"], form.conditions["batch_size"]) for form in found] == [
        ("onnxruntime", 1),
        ("eager", 1),
        ("onnxruntime", 8),
    ]
    assert {len(form.rows) for form in found} == {len(CLASSICS)}


def test_text_is_escaped_and_markup_is_not():
    assert tag("p", "a < b", Html("<br>"), title='"') == '<p title="&quot;">a &lt; b<br></p>'


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    path = reports.write(tmp_path / "report.html", known())
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(InvalidInputError, match="Can't write"):
        reports.write(tmp_path / "nowhere" / "report.html", known())


def test_names_of_any_kind_make_a_page_that_can_be_written():
    page = reports.html(named(NAMES, (1,)))
    assert page.encode()
    parsed = Page(page)
    assert (parsed.faults, parsed.open) == ([], [])
    assert not set(page) & set("\x00\x1b\u2028\u202e\ufffe\uffff")
    assert "x" * 5000 in page
