"""Bytes to events, and answers to nodes: the page's own functions, run in Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.async_api import Browser, expect

from tests.browser.chat import Chat, visiting
from tests.browser.stub import Stub, refuses, running_stub, says

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PARSE = """async (pieces) => {
  const { eventParser } = await import('/page/protocol.js');
  const feed = eventParser();
  return pieces.flatMap(feed);
}"""
RENDER = """async (pieces) => {
  const { textRenderer } = await import('/page/markdown.js');
  const target = document.createElement('div');
  const render = textRenderer(target);
  let text = '';
  for (const piece of pieces) render((text += piece));
  return target.innerHTML;
}"""
FACTS = """async (text) => {
  const { textRenderer } = await import('/page/markdown.js');
  const target = document.createElement('div');
  textRenderer(target)(text);
  const all = [...target.querySelectorAll('*')];
  return {
    text: target.textContent,
    tags: [...new Set(all.map((node) => node.localName))],
    attributes: [...new Set(all.flatMap((node) => node.getAttributeNames()))],
  };
}"""

TAGS = {"p", "strong", "code", "pre", "ul", "ol", "li"}
ATTRIBUTES = {"class", "tabindex", "role", "aria-label", "start"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bench(browser: Browser) -> AsyncIterator[Chat]:
    """A page that many examples share."""
    async with running_stub() as stub, visiting(browser, stub.url) as chat:
        yield chat


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)]


def written(events: list[tuple[str, list[str]]], newline: str) -> str:
    lines: list[str] = []
    for number, (name, data) in enumerate(events):
        lines += [f"event: {name}", ": a comment", f"id: a:{number}", *(f"data: {line}" for line in data), ""]
    return "".join(line + newline for line in lines)


values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)
names = st.sampled_from(["start", "delta", "done"])
events_ = st.lists(st.tuples(names, st.lists(values, min_size=1, max_size=3)), max_size=4)
places = st.lists(st.integers(0, 500), max_size=12)


@given(events=events_, newline=st.sampled_from(["\n", "\r\n", "\r"]), places=places)
@settings(max_examples=150, deadline=None)
async def test_any_cutting_of_a_stream_gives_the_same_events(
    bench: Chat, events: list[tuple[str, list[str]]], newline: str, places: list[int]
) -> None:
    pieces = cut(written(events, newline) + ("" if newline == "\n" else ":\n"), places)
    found = await bench.page.evaluate(PARSE, pieces)
    assert found == [
        {"name": name, "data": "\n".join(data), "id": f"a:{number}"} for number, (name, data) in enumerate(events)
    ]


async def test_an_event_without_its_blank_line_is_not_an_event(bench: Chat) -> None:
    assert await bench.page.evaluate(PARSE, ["event: done\ndata: {}\n"]) == []


async def test_an_event_that_never_ends_is_an_error(bench: Chat) -> None:
    with pytest.raises(Exception, match="could not be read"):
        await bench.page.evaluate(PARSE, ["data: " + "x" * 600_000, "x" * 600_000])


MARKDOWN = [
    ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
    ("a **bold** and `code **x**`", "<p>a <strong>bold</strong> and <code>code **x**</code></p>"),
    ("**`both`**", "<p><strong><code>both</code></strong></p>"),
    ("2 ** 3 and **open and `open", "<p>2 ** 3 and **open and `open</p>"),
    ("# Title\ntext", '<p class="heading">Title</p><p>text</p>'),
    ("- a\n- b\n  - c\n    - d\n- e", "<ul><li>a</li><li>b<ul><li>c<ul><li>d</li></ul></li></ul></li><li>e</li></ul>"),
    ("1. a\n\n2. b\n   more", "<ol><li>a</li><li>b\nmore</li></ol>"),
    ("1. a\n- b", "<ol><li>a</li></ol><ul><li>b</li></ul>"),
    ("3) c\n4) d\n\nafter", '<ol start="3"><li>c</li><li>d</li></ol><p>after</p>'),
    ("[text](https://a.example)", "<p>[text](https://a.example)</p>"),
    ("![x](https://a.example/p.png)", "<p>![x](https://a.example/p.png)</p>"),
    ("<b>x</b> &amp;", "<p>&lt;b&gt;x&lt;/b&gt; &amp;amp;</p>"),
]
CODE = '<pre tabindex="0" role="group" aria-label="Code"><code>{}</code></pre>'
FENCED = [
    ("```py\na = 1\n\nb\n```\nafter", CODE.format("a = 1\n\nb") + "<p>after</p>"),
    ("~~~\n```\n~~~", CODE.format("```")),
    ("````\n```\n````", CODE.format("```")),
    ("```\nstill being writ", CODE.format("still being writ")),
    ("- a\n  ```\n  b\n    c\n  ```\n- d", "<ul><li>a</li></ul>" + CODE.format("b\n  c") + "<ul><li>d</li></ul>"),
]


@pytest.mark.parametrize(("text", "nodes"), MARKDOWN + FENCED)
async def test_markdown_becomes_these_nodes(bench: Chat, text: str, nodes: str) -> None:
    assert await bench.page.evaluate(RENDER, [text]) == nodes


marks = [
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "  ",
    "- ",
    "1. ",
    "2) ",
    "# ",
    "```",
    "~~~",
    "`",
    "**",
    "*",
    "word",
    "<img src=x>",
]
scraps = st.lists(st.sampled_from(marks), max_size=40).map("".join)


@given(text=scraps | st.text(max_size=80), places=places)
@settings(max_examples=250, deadline=None)
async def test_an_answer_in_pieces_ends_up_like_the_whole_of_it(bench: Chat, text: str, places: list[int]) -> None:
    assert await bench.page.evaluate(RENDER, cut(text, places)) == await bench.page.evaluate(RENDER, [text])


async def test_a_finished_paragraph_is_left_alone_while_the_next_one_grows(bench: Chat) -> None:
    """What a reader has selected stays selected."""
    same = await bench.page.evaluate(
        """async () => {
          const { textRenderer } = await import('/page/markdown.js');
          const target = document.createElement('div');
          const render = textRenderer(target);
          render('one\\n\\ntw');
          const first = target.firstChild;
          render('one\\n\\ntwo');
          return [first === target.firstChild, target.textContent];
        }"""
    )
    assert same == [True, "onetwo"]


@given(text=scraps)
@settings(max_examples=250, deadline=None)
async def test_an_answer_makes_only_harmless_nodes_and_loses_no_words(bench: Chat, text: str) -> None:
    facts = await bench.page.evaluate(FACTS, text)
    assert set(facts["tags"]) <= TAGS
    assert set(facts["attributes"]) <= ATTRIBUTES
    if "```" not in text and "~~~" not in text:  # what follows an opening fence names a language, and isn't shown
        assert facts["text"].count("word") == text.count("word")
        assert facts["text"].count("<img src=x>") == text.count("<img src=x>")


LINKING = """async (text) => {
  const { textRenderer } = await import('/page/markdown.js');
  const target = document.createElement('div');
  textRenderer(target, { links: true })(text);
  const all = [...target.querySelectorAll('*')];
  return {
    tags: [...new Set(all.map((node) => node.localName))],
    attributes: [...new Set(all.flatMap((node) => node.getAttributeNames()))],
    schemes: [...new Set([...target.querySelectorAll('a')].map((node) => node.protocol))],
    credentials: [...target.querySelectorAll('a')].map((node) => node.username + node.password).join(''),
  };
}"""
LINK_MARKS = [
    "[", "](", ")", "\\", "(", "https://", "http://", "javascript:", "a.example", "/x?y", "me:secret@",
    "**", "`", " ", "\n",
    "\n\n", "- ", "<", ">", '"', "\t", "[word](https://a.example)",
]  # fmt: skip


@given(text=st.lists(st.sampled_from(LINK_MARKS), max_size=30).map("".join))
@settings(max_examples=250, deadline=None)
async def test_links_are_harmless_nodes_that_lead_to_the_web(bench: Chat, text: str) -> None:
    facts = await bench.page.evaluate(LINKING, text)
    assert set(facts["tags"]) <= TAGS | {"a"}
    assert set(facts["attributes"]) <= ATTRIBUTES | {"href", "title", "target", "rel"}
    assert set(facts["schemes"]) <= {"http:", "https:"}
    assert facts["credentials"] == ""


HOSTILE = """<img src=x onerror="document.title='owned'">
<script>document.title='owned'</script>
[click](javascript:document.title='owned')
![](https://tracker.example/?q=secret)
<style>*{display:none}</style><iframe src="https://tracker.example"></iframe>
```"><svg onload=document.title='owned'>
</code></pre><script>document.title='owned'</script>
```"""


async def test_markup_in_an_answer_or_a_question_stays_text(chat: Chat, stub: Stub) -> None:
    stub.replies = [says(HOSTILE)]
    await chat.ask(HOSTILE)
    await chat.has_state("done")
    await expect(chat.text).to_contain_text("<script>")
    await expect(chat.page.locator('[data-role="question"] p')).to_have_text(HOSTILE)
    assert await chat.page.locator("#log").locator("img, script, style, iframe, svg, a").count() == 0
    assert await chat.page.title() == "Chat"


async def test_markup_in_an_error_stays_text(chat: Chat, stub: Stub) -> None:
    stub.replies = [refuses(503, "upstream_unavailable", "<img src=x onerror=document.title='owned'>")]
    await chat.ask("Hello")
    await expect(chat.notice).to_contain_text("<img src=x")
    assert await chat.page.locator("#log img").count() == 0
