"""What leads to the list stays a link; everything else becomes text in which nothing is lost."""

from __future__ import annotations

import pytest

from proxy.filters.addresses import Addresses
from proxy.filters.links import Links

LISTED = Addresses(["shop.example"])
NONE = Addresses([])
TEXT = {
    "![a](https://evil.example/?q=x)": r"![a]\(`https://evil.example/?q=x`)",
    "[a](//evil.example)": r"[a]\(//evil.example)",
    "[a](javascript:alert(1))": r"[a]\(javascript:alert(1))",
    "[a](&#106;avascript:x)": r"[a]\(&#106;avascript:x)",
    "[a]( <https://evil.example> )": r"[a]\( <`https://evil.example`> )",
    "[a](/logout)": r"[a]\(/logout)",
    "x = a[i][j](k)": r"x = a[i][j]\(k)",
    "![a](logo)": r"![a]\(logo)",
    "![a] (x.png)": r"![a] \(x.png)",
    "`![a](x.png)`": r"`![a]\(x.png)`",
    "`[a](https://evil.example)`": r"`[a]\(https://evil.example)`",
    "[![a](https://evil.example/b)](https://evil.example)": r"[![a]\(`https://evil.example/b`)]\(`https://evil.example`)",
    "[a]: https://evil.example\n": "[a]\\: `https://evil.example`\n",
    "> - [a]: x.png\n": "> - [a]\\: x.png\n",
    "[a\nb]: /x": "[a\nb]\\: /x",
    "[a]: <x> 'y'": r"[a]\: <x> 'y'",
    "see https://evil.example/a.": "see `https://evil.example/a`.",
    "(https://evil.example/a)": "(`https://evil.example/a`)",
    "www.evil.example!": "`www.evil.example`!",
    "ftp://evil.example": "`ftp://evil.example`",
    "HTTPS://evil.example?a.b": "`HTTPS://evil.example?a.b`",
}
SAME = [
    "`x = a[i][j](k); f[x]()`",
    "`f[i](event, 1)` `g['x'](\"https://evil.example\")`",
    "- [ ] todo\n- [x] done",
    "[INFO]: a message",
    "[^1]: A note.",
    "a [b]: c",
    "`https://evil.example`",
    "```\ncurl https://evil.example\n```",
    "half: http ftp www ht w",
    "wow! https: //x",
]
LINKED = [
    "[a](https://shop.example/x)",
    '![a](https://shop.example/x.png "title") and [b](http://shop.example)',
    "[a]: https://shop.example/x\n",
    "[a]: https://shop.example/x",
    "see https://shop.example/x?y=z. And https://shop.example, or www.shop.example".replace("www.shop", "http://shop"),
    "**https://shop.example**",
]
NOT_LINKED = {
    "[a](https://shop.example.evil.example)": r"[a]\(`https://shop.example.evil.example`)",
    "[a](https://shop.example/?u=//evil.example)": r"[a]\(`https://shop.example/?u=//evil.example`)",
    "[a]: https://shop.example/?u=//x\n": "[a]\\: `https://shop.example/?u=//x`\n",
    "https://shop.example(@evil.example": "`https://shop.example`(@evil.example",
    "https://shop.example/" + "a" * 3000: "`https://shop.example/" + "a" * 3000 + "`",
    "[a](https://shop.example/?" + "a" * 3000 + ")": "[a]\\(`https://shop.example/?" + "a" * 3000 + "`)",
}
TAGS = {
    "<img src=\"https://shop.example/a.png\" alt='x'>": "<img src=\"https://shop.example/a.png\" alt='x'>",
    "<a class='b' href='https://shop.example/'>x</a>": "<a class='b' href='https://shop.example/'>x</a>",
    "<img src='https://evil.example/a.png'>": "&lt;img src='`https://evil.example/a.png`'>",
    "<img src=https://shop.example>": "&lt;img src=https://shop.example>",
    "<div title='x'><b>y</b></div>": "<div title='x'><b>y</b></div>",
    "<div style='x'>": "&lt;div style='x'>",
    "<base href='https://shop.example/'>": "&lt;base href='https://shop.example/'>",
    "<abbr href='https://shop.example/'>": "&lt;abbr href='https://shop.example/'>",
    "<script>": "&lt;script>",
    "<https://shop.example>": "<https://shop.example>",
    "<https://evil.example>": "<`https://evil.example`>",
    "<b onclick": "&lt;b onclick",
    "<b " + "x" * 3000 + ">": "&lt;b " + "x" * 3000 + ">",
    "<b title='" + "x" * 3000 + "'>": "&lt;b title='" + "x" * 3000 + "'>",
    "2 < 3 <": "2 < 3 <",
}


def run(text: str, addresses: Addresses, *, html: bool = False) -> str:
    rule = Links(addresses, html=html)
    return "".join(map(rule.feed, text)) + rule.flush()


@pytest.mark.parametrize(("text", "left"), TEXT.items())
@pytest.mark.parametrize("addresses", [NONE, LISTED], ids=["nothing listed", "another listed"])
def test_what_leads_elsewhere_becomes_text(text: str, left: str, addresses: Addresses) -> None:
    assert run(text, addresses) == left


@pytest.mark.parametrize("text", SAME)
@pytest.mark.parametrize("addresses", [NONE, LISTED], ids=["nothing listed", "another listed"])
def test_what_is_no_link_stays_as_it_is(text: str, addresses: Addresses) -> None:
    assert run(text, addresses) == text


@pytest.mark.parametrize("text", LINKED)
def test_what_leads_to_the_list_stays(text: str) -> None:
    assert run(text, LISTED) == text


@pytest.mark.parametrize(("text", "left"), NOT_LINKED.items(), ids=lambda text: text[:50])
def test_what_only_looks_like_the_list_becomes_text(text: str, left: str) -> None:
    assert run(text, LISTED) == left


@pytest.mark.parametrize(("text", "left"), TAGS.items(), ids=lambda text: text[:50])
def test_with_markup_off_tags_are_judged_by_where_they_lead(text: str, left: str) -> None:
    assert run(text, LISTED, html=True) == left


def test_a_label_is_not_held_back_and_a_refusal_needs_no_more_than_the_bracket() -> None:
    rule = Links(NONE)
    assert rule.feed("![a long label") == "![a long label"
    assert rule.feed("]") == ""
    assert rule.held == 1
    assert rule.feed("(htt") == "]\\("
    assert rule.feed("p://x") == "`http://x"
    assert rule.feed(".") == ""
    assert rule.feed("y)") == ".y`)"
    assert rule.hits == {"image": 1, "bare": 1}
