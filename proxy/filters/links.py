"""Images and links only to the site's list. Every other one becomes text, with nothing taken away.

`[label](address)` gets a backslash behind its label, a reference's definition one in front of its colon, and a bare
address is put into backticks: Markdown shows all three as they were written, and links to none.
What it stops: requests that an answer makes a browser send, by images above all, and links to where the site doesn't
lead. What it doesn't: links that a client makes of bare names without `www.` or a scheme, of mail addresses, or of
words in code; a listed host that redirects.
"""

from __future__ import annotations

import re
from collections import Counter

import regex

from proxy.filters.addresses import MAX_ADDRESS, Addresses, carries_another
from proxy.filters.fences import Fences
from proxy.filters.markup import LOUD, is_quiet

_EVENT = re.compile(r"[\[\]]|(?:https?|ftp)://|www\.", re.IGNORECASE)
_EVENT_OR_TAG = re.compile(_EVENT.pattern + r"|<(?=[a-zA-Z/!?])", re.IGNORECASE)
# The beginning of an address, or of a tag, at the end of what is here; at most _MAX_BEGUN characters.
_BEGUN = re.compile(r"(?:h(?:t(?:tps?(?::/?)?|t)?)?|f(?:t(?:p(?::/?)?)?)?|w{1,3})\Z", re.IGNORECASE)
_BEGUN_OR_TAG = re.compile(_BEGUN.pattern + r"|<\Z", re.IGNORECASE)
_MAX_BEGUN = 7
# `](` that is no link, in code: an index and a call. It can't lead to another host either.
_CALL = regex.compile(r"\(\s{0,8}(?:[\"'\[({)]|[\w$.*+=-]{1,40}[\s),\"'(\[{;>])")
# `]:` that is no definition: words follow, where CommonMark 4.7 takes an address and at most a title.
_NOTE = regex.compile(r":[ \t]{1,8}[^\s:/\\&<>%\"'(]{1,40}[ \t]{1,8}[^\s\"'(]")
_NONE = regex.compile(r"(?!)")
# Old Markdown, and showdown, take white space between an image's label and its address.
_LABEL_END = re.compile(r"\]\s{0,8}")
_UNQUOTED = re.compile(r"[\s<>\"'`|\[\](){}*\\]")  # ends what of a bare address goes between backticks
_UNLINKED = re.compile(r"[\s<]")  # ends what clients may take for a bare address (GFM 6.9)
_AFTER = ".,;:!?'\")]}*_~|>"  # but for these at its end
_MOST = MAX_ADDRESS + 300
_ATTRIBUTE = (
    r"\s+(?:alt|title|width|height|target|rel|class|id|lang|dir|role|align|start|colspan|rowspan|href|src)"
    r"\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*')"
)
_TAG = regex.compile(
    rf"<(?!(?:{'|'.join(LOUD)})[\s/>])[a-z][a-z0-9]{{0,20}}(?:{_ATTRIBUTE}){{0,20}}\s*/?>", regex.IGNORECASE
)
_LEADS = re.compile(r"\s(?:href|src)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_MAY_LEAD = re.compile(r"<(?:a|img)[\s/>]", re.IGNORECASE)


class Links:
    """`html`: the answer's own tags reach the client, so their addresses are judged too."""

    def __init__(self, addresses: Addresses, *, html: bool = False) -> None:
        self._addresses = addresses
        self._event, self._begun = (_EVENT_OR_TAG, _BEGUN_OR_TAG) if html else (_EVENT, _BEGUN)
        self._fences = Fences()
        self._text = ""
        self._last = ""  # the character in front of it
        self._quoting = False  # inside a bare address that is put into backticks
        self._image = self._definition = -1  # the paragraph in which one of them opened
        self.hits: Counter[str] = Counter()

    @property
    def held(self) -> int:
        return len(self._text)

    def feed(self, text: str) -> str:
        if not (self._text or self._quoting or self._event.search(text) or self._begins(text, 0)):
            self._fences.feed(text)
            self._last = text[-1:] or self._last
            return text
        return self._release(self._text + text, final=False)

    def flush(self) -> str:
        return self._release(self._text, final=True)

    def _begins(self, text: str, at: int) -> re.Match[str] | None:
        return self._begun.search(text, max(at, len(text) - _MAX_BEGUN))

    def _release(self, text: str, *, final: bool) -> str:
        out: list[str] = []
        at = 0
        while True:
            if self._quoting:
                at = self._quote(text, at, out, final=final)
                if self._quoting:
                    break
            event = self._event.search(text, at)
            if event is None:
                begun = None if final else self._begins(text, at)
                end = len(text) if begun is None else begun.start()
                self._pass(text[at:end], out)
                at = end
                break
            self._pass(text[at : event.start()], out)
            at = event.start()
            after = self._judge(text, at, event[0], out, final=final)
            if after == at and not self._quoting:
                break
            at = after
        self._text = text[at:]
        return "".join(out)

    def _pass(self, text: str, out: list[str]) -> None:
        if text:
            self._fences.feed(text)
            self._last = text[-1]
            out.append(text)

    def _judge(self, text: str, at: int, event: str, out: list[str], *, final: bool) -> int:
        """Where to go on; `at` itself if more text is needed, or if what follows is to be quoted."""
        if event == "[":
            if self._last == "!":
                self._image = self._fences.paragraph
            if self._fences.starts_line:
                self._definition = self._fences.paragraph
        elif event == "]":
            return self._bracket(text, at, out, final=final)
        elif event == "<":
            return self._tag(text, at, out, final=final)
        elif not self._fences.inside:
            return self._bare(text, at, out, final=final)
        self._pass(event, out)
        return at + len(event)

    def _bracket(self, text: str, at: int, out: list[str], *, final: bool) -> int:
        is_image = self._image == self._fences.paragraph
        label = _LABEL_END.match(text, at) if is_image else None
        after = at + 1 if label is None else label.end()
        if after == len(text) and not final:
            return at
        follows = text[after : after + 1]
        if follows == "(":
            allowed, rule = self._addresses.inline, "image" if is_image else "link"
            harmless = _CALL if self._fences.inside and not is_image else _NONE
        elif follows == ":" and self._definition == self._fences.paragraph:
            allowed, harmless, rule = self._addresses.definition, _NOTE, "definition"
        else:
            self._pass(text[at:after], out)
            return after
        subject = text + "\n" if final else text
        for pattern in (harmless, allowed):
            found = pattern.match(subject, after, after + _MOST, partial=not final)
            if found is not None and found.partial and len(text) < after + _MOST:
                return at
            if found is not None and not found.partial:
                if pattern is allowed and carries_another(found["address"]):
                    continue
                self._pass(text[at : found.end()], out)
                return min(found.end(), len(text))
        self._pass(text[at:after], out)
        out.append("\\")
        self.hits[rule] += 1
        self._pass(follows, out)
        return after + 1

    def _bare(self, text: str, at: int, out: list[str], *, final: bool) -> int:
        """An address that stands by itself: as it is, if it's on the list, or else quoted."""
        ending = _UNLINKED.search(text, at, at + MAX_ADDRESS)
        end = len(text) if ending is None else ending.start()
        written = text[at : min(end, at + MAX_ADDRESS)].rstrip(_AFTER)
        address = f"https://{written}" if written[:1] in "wW" else written
        if ending is None and not final and len(text) < at + MAX_ADDRESS:
            if self._addresses.alone.match(address, partial=True) is not None:
                return at
        elif self._addresses.allows(address):
            self._pass(written, out)
            return at + len(written)
        out.append("`")
        self.hits["bare"] += 1
        self._quoting = True
        return at

    def _quote(self, text: str, at: int, out: list[str], *, final: bool) -> int:
        ending = _UNQUOTED.search(text, at)
        address = text[at : None if ending is None else ending.start()].rstrip(_AFTER)
        self._pass(address, out)
        if ending is not None or final:
            out.append("`")
            self._quoting = False
        return at + len(address)

    def _tag(self, text: str, at: int, out: list[str], *, final: bool) -> int:
        quiet = is_quiet(text, at, final=final)
        tag = _TAG.match(text, at, at + _MOST, partial=not final)
        if quiet is None or (tag is not None and tag.partial and len(text) < at + _MOST):
            return at
        if tag is not None and not tag.partial and self._leads_well(tag[0]):
            self._pass(tag[0], out)
            return tag.end()
        if quiet:
            self._pass("<", out)
        else:
            self._fences.feed("<")
            out.append("&lt;")
            self.hits["tag"] += 1
        return at + 1

    def _leads_well(self, tag: str) -> bool:
        leads = [double or single for double, single in _LEADS.findall(tag)]
        return not leads or (_MAY_LEAD.match(tag) is not None and all(map(self._addresses.allows, leads)))
