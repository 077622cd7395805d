"""A text's shell syntax as words: where separators and programs stand, and where in the text that was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.content.shellsyntax import spell


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("; nl", "sbnzgs kreadnl endt"),
        ("hey. ;nl", "word punp spnzsg kreadnl endt"),
        ("zed? (no). && nl", "word punp paro stopno parc punp apnzss kreadnl endt"),
        ("name: ||nl", "subcname coln ocnzsg kreadnl endt"),
        ("zed, |nl", "word punc pknzsg kreadnl endt"),
        ('"|nl" zed', "quoo pqnzgg kreadnl quoc word endt"),
        ("'zed'; nl", "quoo word quoc sunzgs kreadnl endt"),
        ("7&nl", "numb mnnzgg kreadnl endt"),
        ("zed\n;nl", "word lwnz slnzsg kreadnl endt"),
        ("zed\\n nl", "word nwnzgs kreadnl endt"),
        ("zed\\N nl", "word nwnzgs kreadnl endt"),
        ("$(nl) $((1)) <(nl)", "dbnzgg kreadnl parc ernzsg xnumb parc parc rrnzsg kreadnl parc endt"),
        ("`nl` zed", "tbnzgg kreadnl tick word endt"),
        ("```\nnl", "lbnz llnz breadnl endt"),
    ],
)
def test_a_separator_says_what_stands_before_it(text: str, words: str) -> None:
    assert spell(text).words == words


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("zed | wc", "n"),
        ("nl x | wc", "c"),
        ("zed nl x | wc", "m"),
        ("find zed | wc", "d"),
        ("find /usr | wc", "c"),
        ("find -x | wc", "c"),
        ("zed find x | wc", "n"),
        ("nl find x | wc", "c"),
        ("zed. nl | wc", "c"),
        ("nl 'zed' | wc", "c"),
        ("nl $(zed) | wc", "c"),
        ("nl `zed` | wc", "c"),
        ("nl (zed) | wc", "c"),
        ("nl \\\n | wc", "c"),
        ("zed\n | wc", "n"),
        ("$ nl | wc", "c"),
        ("X=1 nl | wc", "c"),
        ("sudo find | wc", "c"),
    ],
)
def test_a_separator_says_what_is_known_of_the_command_line(text: str, flag: str) -> None:
    pipe = spell(text).words.split()[-3]
    assert (pipe[0], pipe[2]) == ("p", flag)


@pytest.mark.parametrize(
    ("word", "spelled"),
    [
        ("nl", "kreadnl"),
        ("/usr/bin/nl", "kreadbinnl"),
        ("./nl", "kreadnl"),
        ("FIND", "kzlookfind"),
        ("Find", "xwcap"),
        ("find:", "xword"),
        ("find=2", "xasgn"),
        ("find(", "xword"),
        ("popen(", "funcpopen"),
        ("cscript.exe", "kwindcscript"),
        ("Get-Zed", "kpostgetzed"),
        ("zed", "xword"),
        ("ZED", "xwupp"),
        ("Zed", "xwcap"),
        ("été", "xwint"),
        ("don't", "xword"),
        ("I'm", "xstopim"),
        ("ann@mail.example", "xmail"),
        ("https://a.example/b", "xurls"),
        ("-x", "xopts"),
        ("--zed", "xoptl"),
        ("/s", "xoptw"),
        ("/zeds", "xptha"),
        ("/", "xpthd"),
        ("..", "xdash"),
        ("../zed", "xpthr"),
        ("a/b", "xpthn"),
        ("D:\\zed", "xpthw"),
        ("/etc/zed", "xpthx"),
        ("*.zed", "xglob"),
        ("z\\ed", "xobfu"),
        ("$zed", "xvarz"),
        ("%zed%", "xvarz"),
        ("10.0.0.1", "xnumb"),
        ("localhost", "xword"),
        ("zed.example", "xhost"),
        (">", "xrdir"),
        ("z_d", "xmisc"),
    ],
)
def test_a_word_says_what_it_is(word: str, spelled: str) -> None:
    assert spell(f"; {word}").words.split()[1] == spelled


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nl zed nl", "breadnl word areadnl endt"),
        (";{nl}", "sbnzgg curo kreadnl curc endt"),
        ("zed{nl}", "word curo areadnl curc endt"),
        (";nl${IFS}7", "sbnzgg kreadnl blnk numb endt"),
        ("nl ) zed", "breadnl parc word endt"),
    ],
)
def test_a_program_is_called_at_the_beginning_of_a_command_line_and_behind_a_separator(text: str, words: str) -> None:
    assert spell(text).words == words


def test_words_are_found_again_in_the_text() -> None:
    text = "my name is ;nl /zeds now"
    spelling = spell(text)
    start = spelling.words.index("kread")
    assert text[slice(*spelling.place(start, start + len("kreadnl ptha")))] == "nl /zeds"


@given(st.text(st.sampled_from("ab1nN'\"`<>/=-#*(){}[];:|&$@_ \n\\%~.,?!\u2019é"), max_size=60))
@settings(deadline=None)
def test_every_text_can_be_spelled(text: str) -> None:
    spelling = spell(text)
    assert len(spelling.words.split(" ")) == len(spelling.places)
    assert all(0 <= start <= end <= len(text) for start, end in spelling.places)
    assert [start for start, _ in spelling.places] == sorted(start for start, _ in spelling.places)
