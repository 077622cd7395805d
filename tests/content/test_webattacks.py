"""Web attacks by the trained models, beside the rules for them. Rates: test_web_rates.py, test_rates.py."""

from __future__ import annotations

import base64
import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.content import webattacks
from proxy.content.detect import THRESHOLD, WEB_MODELS, shipped
from proxy.content.normalise import normalise
from proxy.content.webattacks import Kind, Suspicion

DETECTOR = shipped()
SQL = "lamp' AND 4=(SELECT COUNT(*) FROM staff) AND 'k'='k"
MARKUP = '"><video src=q onerror=confirm(7)>'
COMMAND = "; tac /etc/issue"


def found(text: str) -> dict[Kind, Suspicion]:
    return {suspicion.kind: suspicion for suspicion in webattacks.find(normalise(text))}


@pytest.mark.parametrize(
    "text",
    [
        SQL,
        'lamp") OR 9=9 -- q',
        "7) UNION ALL SELECT NULL,NULL,version()#",
        "x';SELECT pg_sleep(9)--",
        "3 AND EXTRACTVALUE(5,CONCAT(0x7e,(SELECT pin FROM staff)))",
        "q'||(SELECT 3 FROM dual)||'",
    ],
)
@pytest.mark.parametrize("sentence", ["{}", "Please look up the order of {}", "My name is {} and I can't log in."])
def test_sql_injection_is_found_wherever_it_stands(sentence: str, text: str) -> None:
    assert found(sentence.format(text))["sql_injection"].score >= THRESHOLD


@pytest.mark.parametrize(
    "text",
    [
        MARKUP,
        "<details open ontoggle=prompt(3)>",
        "</title><script>confirm(9)</script>",
        '<iframe srcdoc="<script>prompt(1)</script>">',
        "<a href=javascript:confirm(5)>go</a>",
    ],
)
@pytest.mark.parametrize("sentence", ["{}", "Please look up the order of {}", "My name is {} and I can't log in."])
def test_markup_that_runs_is_found_wherever_it_stands(sentence: str, text: str) -> None:
    assert found(sentence.format(text))["xss"].score >= THRESHOLD


@pytest.mark.parametrize(
    "text",
    ["[7].findIndex(confirm)", "x=>{prompt(7)}", "new Proxy({},{get:confirm}).q", "9&&eval(location.hash.slice(1))"],
)
@pytest.mark.parametrize(
    "sentence", ["{}", "Hello, it is late. {} Thanks a lot", "My name is: {}", 'What is "{}" on your page?']
)
def test_a_program_that_opens_a_dialog_is_found_wherever_it_stands(sentence: str, text: str) -> None:
    assert DETECTOR.judge(sentence.replace("{}", text)).scores["xss"] >= THRESHOLD


@pytest.mark.parametrize("value", ["'--", '7");--', "7' #", "7; SELECT pin FROM staff", "x'; DROP TABLE staff"])
@pytest.mark.parametrize(
    "sentence", ["{}", "Hello, it is late. {} Thanks a lot", "My name is: {}", "My name:\n{}\nThanks"]
)
def test_a_value_that_ends_a_query_is_found_wherever_it_stands(sentence: str, value: str) -> None:
    assert DETECTOR.judge(sentence.format(value)).scores["sql_injection"] >= THRESHOLD


@pytest.mark.parametrize(
    "text",
    ["; env", "|id", "&& pwd", "| route print", ";ss -tlnp", "& type C:\\boot.ini", "|nmap 10.0.0.7", "; uptime"],
)
@pytest.mark.parametrize(
    "sentence", ["{}", "Hello, it is late. {} Thanks a lot", "My name is: {}", 'It says "{}" here']
)
def test_a_command_is_found_wherever_it_stands(sentence: str, text: str) -> None:
    assert found(sentence.format(text))["command_injection"].score >= THRESHOLD


@pytest.mark.parametrize(
    "text",
    [
        "How do I write SELECT name FROM staff WHERE city = 'Bonn' AND age > 30 ORDER BY name?",
        "I'm Conan O'Hara, and my wife is Ann d'Orsay; order #12 -- thanks",
        "if (a == 'x' || b == 'y') { return a + b; } // why?",
        "for (int i = 0; i < n; i++) { total += prices[i]; }",
        '<form action="/send" method="post"><input type="text" name="mail"></form> is not centred',
        "const sum = prices.map(p => p * 2).filter(p => p > 3);",
        "[4, 8, 15, 16, 23, 42]",
        "I <3 this shop :-) it's 5 > 3",
        "button.addEventListener('click', function() { alert('Thanks for your order!'); });",
        "const age = prompt(\"How old are you?\"); if (confirm('Sure?')) { save(age); }",
        "try { load(x) } catch (err) { alert(err.message); }",
        "Change the colour here:\n```\n<div>This is some text</div>\n```",
        "Price: $7.00 - $9.00 (incl. 19% VAT); order #1234-5678 -- thanks!",
        "print('The sum is:', total); echo \"The number is $2\"",
        "please confirm (1) my address and (2) the date",
        "Run ls -la | grep shoes; it shows nothing, so I did cd /tmp && ls",
        "$ docker ps | wc -l\n7\n$ uptime; who",
        "RUN apt-get update \\\n    && apt-get install -y curl",
        "Order 12; find my receipt attached & mail me, please",
        "| id | name |\n|---|---|\n| 7 | lamp |",
        "Home | Help | More",
        "Quiero comprar & ver mi pedido; der Rest ist von mir & dir",
        "for f in $(ls *.txt); do echo $f; sleep 1; done",
    ],
)
def test_what_people_write_about_code_passes(text: str) -> None:
    assert [suspicion for suspicion in found(text).values() if suspicion.score >= THRESHOLD] == []


@pytest.mark.parametrize(("kind", "attack"), [("sql_injection", SQL), ("xss", MARKUP), ("command_injection", COMMAND)])
def test_the_stretch_that_gave_it_away_is_told(kind: Kind, attack: str) -> None:
    text = "\uff28ello there, could you look up " + attack + " in your list of yesterday, please"
    suspicion = found(text)[kind]
    begin, end = text.index(attack), text.index(attack) + len(attack)
    assert begin <= suspicion.start < suspicion.end <= end + len(" in")  # what stands behind may tell, too


def test_a_further_reading_stands_for_the_whole_message() -> None:
    text = "please open " + base64.b64encode(MARKUP.encode()).decode()
    assert found(text)["xss"].score >= THRESHOLD
    assert (found(text)["xss"].start, found(text)["xss"].end) == (0, len(text))


def test_a_further_reading_is_looked_at_where_there_is_time() -> None:
    """The bound of what the models read; the rules read all of it."""
    text = codecs.encode("the code is " + MARKUP, "rot13")
    assert found(text)["xss"].score >= THRESHOLD
    assert not any(suspicion.score >= THRESHOLD for suspicion in found("e " * webattacks.READ_CHARS + text).values())


@pytest.mark.parametrize(("kind", "attack"), [("sql_injection", SQL), ("xss", MARKUP), ("command_injection", COMMAND)])
def test_the_models_score_is_told_beside_the_rules(kind: Kind, attack: str) -> None:
    judgement = DETECTOR.judge(attack)
    hits = [hit for hit in judgement.hits if hit.category == kind]
    assert WEB_MODELS[kind] in {hit.rule for hit in hits}
    assert judgement.scores[kind] == pytest.approx(sum(hit.weight for hit in hits))


@given(st.text(st.sampled_from("aA1'\"`<>/=-#*(;:@% \n&u0\u2019\uff1cİ"), max_size=80))
@settings(deadline=None)
def test_every_text_has_a_score_and_a_place(text: str) -> None:
    for suspicion in webattacks.find(normalise(text)):
        assert webattacks.LEAST < suspicion.score <= 2
        assert 0 <= suspicion.start <= suspicion.end <= len(text)


@pytest.mark.parametrize("sentence", ["Hello, my mail is {}", "Write to {} or call", "{}", "Is it {} or not?"])
@pytest.mark.parametrize(
    "address", ["ann@shop-mail.com", "x.y.z@web.de", "o'neil@my-company.co.uk", "@support", "@shop-team", "a-b@c-d.org"]
)
def test_who_writes_an_address_or_names_somebody_attacks_nobody(sentence: str, address: str) -> None:
    assert DETECTOR.judge(sentence.format(address)).scores.get("sql_injection", 0.0) < THRESHOLD
