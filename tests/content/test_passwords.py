"""Passwords in commands, in pairs with a name, PINs and tokens over several lines, and what only looks like one."""

from __future__ import annotations

import pytest

from proxy.content.pii import find


def secrets(text: str) -> list[str]:
    return [text[span.start : span.end] for span in find(text, kinds=["secret"])]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("mysql -h db -phunter22", "hunter22"), ("mysqldump -u root -p'blue1moon' shop", "blue1moon"),
        ("sshpass -p m00nlight ssh ann@db", "m00nlight"), ("docker login -u ann -p bl4emoon hub.example", "bl4emoon"),
        ("redis-cli -h x -a blue9moon ping", "blue9moon"), ("smbclient //srv/x -U ann%bluemoon1", "bluemoon1"),
        ("htpasswd -cb /etc/x ann bluemoon1", "bluemoon1"), ("net use z: \\\\srv\\x bluemoon1 /user:ann", "bluemoon1"),
        ("openssl rsa -in k -passin pass:bluemoon1", "bluemoon1"),
        ("ldapsearch -D cn=ann -w bluemoon1 -b x", "bluemoon1"),
        ("mysql -pbluemoon", "bluemoon"),
        ("CREATE USER ann IDENTIFIED BY 'blue moon 1'", "blue moon 1"),
        ("ALTER ROLE ann WITH PASSWORD 'bluemoon1'", "bluemoon1"),
        ("ConvertTo-SecureString 'bluemoon1' -AsPlainText", "bluemoon1"),
        ("login: ann / blue1moon", "blue1moon"), ("Zugangsdaten ann:blue1moon.", "blue1moon"),
        ("PIN: 4711", "4711"), ("my pin is 471122", "471122"), ("PIN 4711!", "4711"), ("Geheimzahl 4711.", "4711"),
        ("пин-код 4711", "4711"), ("暗証番号は4711です", "4711"), ("CVV: 123", "123"), ("cvc 1234, thanks", "1234"),
    ],
)  # fmt: skip
def test_a_password_is_known_by_what_takes_it(text: str, value: str) -> None:
    assert secrets(text) == [value]


@pytest.mark.parametrize(
    "text",
    [
        "mysql -u root -p shop1234", "mysql -P3306 -h db1", "sshpass -p $PASS1 ssh x", "docker run -p 8080:80 x",
        "mysql -p${DB_PASS1}", "docker login -p your-token1", "login at 10:30:00", "login: https://a.example/x1y2z3",
        "log-in: ann/reports on 2 pages", "login page 1/2", "credentials: ann : password",
        "Login page / dashboard2", "PIN 2024 edition", "pincode 560001", "my pin code: 560001",
        "GPIO pin 4711", "pin 12", "pins 4711", "PIN 4711-22", "PIN 4711.5", "spin: 4711", "CVV 12345", "cvc 12",
        "identified by 4711", "net use 1", "I bought a pin for 4711 yen",
    ],
)  # fmt: skip
def test_what_takes_no_password_is_left(text: str) -> None:
    assert secrets(text) == []


def test_a_token_over_several_lines_is_one() -> None:
    token = "eyJhbGciOiJIUzI1NiIsInR5cCI6\nIkpXVCJ9.eyJzdWIiOiIxMjM0NTY3\r\nODkwIn0.dozjgNryP4J3jVmN\nHl0w5N_XgL0n3I9P"
    assert secrets(f"it says\n{token}\nwhy is that?") == [token]
    assert secrets("eyJhbGciOiJIUzI1NiIsInR5cCI6\nis how they all begin") == []
