"""Report pages: what is written is shown, and nothing of it is markup."""

from __future__ import annotations

from sevenfold.reports import page


def test_words_are_read_from_the_left_and_numbers_end_under_each_other() -> None:
    made = page.table(
        ["what", "n", "value", "said"],
        [["a", 1200, 0.5, "it is so"], ["b", None, "12.5 ms", ""], ["c", 3, "0.1 of 0.4", "fine"]],
    )
    assert "<td>1,200</td><td>0.5000</td><td class=words>it is so</td>" in made
    assert "<td>-</td><td>12.5 ms</td><td class=words></td>" in made
    assert "<th>value</th><th class=words>said</th>" in made


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    made = page.page("<b>", page.text("a < b"), page.table(["<i>"], [["<script>"]]))
    assert "<b>" not in made and "<script>" not in made and "<i>" not in made
    assert "a &lt; b" in made
