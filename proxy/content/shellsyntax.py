"""A text spelled as the words of shell syntax, so that a model of word n-grams sees where a command stands.

A separator says what stands before it (nothing, a quote, the end of a sentence, a value, a command), the word behind it
which kind of program it is, and every other word whether it is an option, a path, an address or just a word. A person's
pipeline begins with a command, somebody else's stands where a value should be. It sees no meaning, and not what a word
that it doesn't know stands for. The first four letters of each word are its class. Time and space are linear in the
text's length.
"""

from __future__ import annotations

import re

from proxy.content.syntax import Spelling

_PROGRAMS = {
    "look": """
arch blkid date df dmesg du env free getent getfacl groups history hostid hostname hostnamectl id iostat jobs last
lastlog ll locale locate loginctl logname ls lsattr lsb_release lsblk lscpu lsmod lsof lspci lsusb mount nproc printenv
ps pstree pwd set stat sysctl timedatectl top htop tree tty ulimit umask uname uptime users vmstat w whereis which who
whoami file find type free dir vdir lshw crontab
""",
    "read": """
awk base32 base64 bat cat cmp col cut diff ed egrep fgrep fold gawk grep head hexdump jq join less mawk more nano nl od
paste rev sed sort strings tac tail tee tr uniq vi vim wc xxd zcat zgrep rg
""",
    "fetc": """
aria2c axel curl fetch ftp git links lwp-download lwp-request lynx rclone rsync scp sftp svn tftp w3m wget mail sendmail
mutt
""",
    "netw": """
arp arping dig drill ethtool fping host ifconfig ifdown ifup ip ip6tables iptables iwconfig mtr nbtstat nc ncat
netcat netstat nft nmap nslookup openssl ping ping6 route showmount smbclient socat ss ssh telnet tcpdump
traceroute tracepath tracert ufw whois masscan
""",
    "shel": """
ash at bash batch busybox bun csh dash deno doas env eval exec expect fish gdb irb java jshell ksh lua mshta nice node
nodejs nohup perl php powershell pwsh python python2 python3 ruby screen script setsid sh source strace su sudo tclsh
time timeout tmux watch xargs xterm zsh cmd ghci erl julia groovy scala
""",
    "wind": """
assoc attrib bcdedit bitsadmin cacls call certutil chcp cipher cls copy cscript del driverquery dsquery erase findstr
fsutil ftype getmac gpresult gpupdate icacls ipconfig klist md mklink msiexec net net1 netsh nltest pause qprocess
query quser qwinsta rd reg regsvr32 ren robocopy rundll32 sc schtasks setx start systeminfo takeown taskkill tasklist
ver vol vssadmin wevtutil where wmic wscript xcopy msinfo32 wbadmin pathping powercfg
""",
    "post": """
gc gci gps gwmi iex irm iwr
""",
    "wait": """
sleep usleep choice waitfor
""",
    "admi": """
alias aptitude apt apt-get apk adduser addgroup ansible aws az brew cargo cc cd chattr chfn chgrp chmod chown chpasswd
chroot chsh clear cp cpio dd deluser dnf docker dpkg export fdisk g++ gcc gcloud gem go groupadd gunzip gzip halt helm
initctl insmod install journalctl kill killall kubectl ln logger make mkdir mkfifo mkfs mknod modprobe mongo mongosh mv
mysql mysqldump npm npx openssl pacman parted passwd pgrep pip pip3 pkexec pkill podman poweroff psql pushd read reboot
redis-cli rm rmdir rmmod rpm service shred shutdown snap sqlite3 swapoff systemctl tar touch trap truncate umount
unalias unlink unset unzip update-rc.d useradd userdel usermod visudo yarn yum zip zypper 7z split
""",
    "echo": """
echo printf print
""",
}
# Of them, those that are words of prose as well, here or in a neighbouring language.
_PROSE = """
at arch bat batch call cat choice clear copy col cut date del diff dig dir ed exec expect fetch file find fish fold free
git go groups head helm history host id install ip jobs join julia kill last less links locale locate logger look mail
make md more mount nano net nice node paste pause ping post print query rd read reg ren route ruby sc scala screen
script service set shutdown sleep snap sort source split ss start stat strings su tail tar tee time timeout top touch tr
trap tree truncate type users ver vol w watch where which who zip echo sed rev rg fetch axel lynx export alias bun
"""
_KNOWN = {name: kind for kind, names in reversed(_PROGRAMS.items()) for name in names.split()}
_AMBIGUOUS = frozenset(_PROSE.split())
# What programs that look around take as their first word.
_SUBCOMMANDS = """
a addr address aux auxf cpu bios os user users view localgroup group share start accounts link neigh print query
computersystem memorychip process product service status list show get caption name ef session config use qfe
logicaldisk
"""
_FUNCTIONS = """
system exec passthru shell_exec popen proc_open pcntl_exec eval execsync spawn spawnsync check_output subprocess.call
subprocess.run subprocess.popen os.system os.popen os.execute runtime.exec getruntime().exec backticks assert
call_user_func child_process.exec
"""
_STOPS = """
a about after all also am an and any are as be been before but by can could da das de der did die do does doing el else
en est et for from get give going got had has have hello help here hi how i im if in into is isnt it its je just
la le les like me mein mit my need no not now of on one only or our out please que qui she should so some tell thank
thanks that the their them then there they this to too try und un une up us use was we were what when why will with
would y you your
"""

_RUNNING = frozenset(_FUNCTIONS.split())
_STOPPING = frozenset(_STOPS.split())
_LOOKED_AT = frozenset(_SUBCOMMANDS.split())
_LEADING = frozenset(("sudo", "nohup", "env", "time", "exec", "nice"))  # programs that run another

_TOKEN = re.compile(
    r"(?P<line>\s*\n\s*|```+)"
    r"|(?P<blank>\$\{?ifs\}?(?:\$\d)?)"
    r"|(?P<url>(?:https?|ftp|ldap)://[^\s;|`'\"<>)]+)"
    r"|(?P<mail>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})"
    r"|(?P<sign>\$\(\(?|[<>]\(|\|\||&&|\|&|[|;`]|&(?!>)|\\n)"
    r"|(?P<redirect>\d?>{1,2}&?\d?|&>|<{1,3})"
    r"|(?P<quote>['\"\u2018\u2019\u201c\u201d\xb4])"
    r"|(?P<bracket>[(){}\[\]])"
    r"|(?P<word>(?:\w['\u2019](?=[a-z]{1,2}\b)|[^\s;|&<>()`'\"\u2018\u2019\u201c\u201d\xb4{}\[\]\\$]|\\(?!n)|\$(?!\(|\{?ifs))+)",
    re.IGNORECASE,
)
# A separator's first letter; its second is what stands before it, its third what is known of the command line before.
_SIGNS = {
    "|": "p", "|&": "p", "||": "o", "&&": "a", "&": "m", ";": "s", "\\n": "n", "$(": "d", "$((": "e", "`": "t",
    "<(": "r", ">(": "r",
}  # fmt: skip
_START, _LINE, _QUOTE, _CLOSED, _SENTENCE, _COLON, _COMMA, _BRACKET, _SEPARATOR = "blqupckrs"
_NONE, _DOUBTFUL, _MENTIONED, _COMMAND = "ndmc"
_ENDED = {",": ("punc", _COMMA), ":": ("coln", _COLON)}
_BRACKETS = {"(": "paro", ")": "parc", "{": "curo", "}": "curc", "[": "brao", "]": "brac"}

# What a word is, other than a program or plain: the first that fits.
_SHAPES = (
    ("prmt", "x", re.compile(r"[$#%>]\Z|[\w.-]+@[\w.-]+:?\S*[$#%]\Z")),
    ("asgn", "v", re.compile(r"[a-z_]\w*\+?=")),
    ("optl", "o", re.compile(r"--[a-z]")),
    ("opts", "o", re.compile(r"[-+][a-z0-9]{1,12}\Z|-[a-z]+=")),
    ("dash", "x", re.compile(r"[-*=~+_#>.]+\Z")),
    ("numb", "n", re.compile(r"[#$\u20ac\xa3~+-]?\d[\d.,:/x-]*[%\u20ac]?\Z")),
    ("addr", "h", re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\Z|localhost\Z")),
    ("varz", "v", re.compile(r"\$[\w@*?!$]|\$\Z|%\w+%")),
    ("pthx", "t", re.compile(
        r".*(?:/etc/|/proc/|/root\b|/var/|/dev/tcp|\.ssh|\.env\b|\.git/|win\.ini|\\drivers\\|system32|\\sam\Z|boot\.ini"
        r"|/home/|id_rsa|passwd|shadow|wp-config|web\.config|inetpub|\\windows\\|\\users\\|hklm|hkcu|\.ht|bash_history)"
    )),
    ("pthd", "t", re.compile(r"[/\\~][*.]?\Z")),
    ("optw", "o", re.compile(r"/[a-z?]{1,3}\Z|/(?:all|query|user|domain|add|create|transfer|download)\Z")),
    ("pthw", "t", re.compile(r"[a-z]:\\|\\\\\w")),
    ("ptha", "t", re.compile(r"/[\w.?*]")),
    ("pthr", "t", re.compile(r"(?:\.{1,2}|~)/")),
    ("glob", "t", re.compile(r"(?=.*[?*].)(?=.*\w)")),
    ("obfu", "w", re.compile(r"\w*[\\^$]\w")),
    ("pthn", "w", re.compile(r"[^/]+/")),
    ("host", "h", re.compile(r"(?:[\w-]{1,63}\.){1,8}[a-z]{2,10}(?::\d+)?\Z")),
)  # fmt: skip
_FOLDER = re.compile(r"/(?:usr/)?(?:local/)?s?bin/|\.{1,2}/|c:\\windows\\(?:system32\\)?")
_VERBS = (
    "get|set|invoke|new|start|stop|remove|add|out|import|export|test|enable|disable|clear|copy|move|restart|resolve"
)
_CMDLET = re.compile(rf"(?:{_VERBS})-[a-z]{{3,25}}\Z")

# A separator and a program behind it, or a function that runs one: a text without is not worth a look. RE2's syntax.
TRIGGER = (
    r"(?i)(?:[;|&`]|\$\(|[<>]\(|\\n)[\s'\"({$@\\]{0,4}(?:/(?:usr/)?(?:local/)?s?bin/|\./)?"
    rf"(?:(?:{'|'.join(sorted(re.escape(name) for name in _KNOWN))})\b|(?:{_VERBS})-[a-z]{{3}})"
    rf"|\b(?:{'|'.join(sorted(re.escape(name) for name in _RUNNING))})\("
)


def spell(text: str) -> Spelling:
    """Spell a text as shell syntax. The last word stands for its end."""
    return _Speller(text).spelling()


class _Speller:
    """What stands before the next token, and what is known of the command line that it belongs to."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words: list[str] = []
        self._places: list[tuple[int, int]] = []
        self._before = _START
        self._line = _NONE  # whether the line holds a command: not, one that may be prose, behind words, from its start
        self._above = _NONE  # the same of the line before this one
        self._is_first = True  # the next word would be the command
        self._opened: dict[str, str] = {}  # quotes, and what was known of the line outside of them
        self._nested: list[str] = []  # likewise for round brackets

    def spelling(self) -> Spelling:
        for found in _TOKEN.finditer(self._text):
            self._read(found)
        self._add("endt", len(self._text), len(self._text))
        return Spelling(" ".join(self._words), tuple(self._places))

    def _read(self, found: re.Match[str]) -> None:
        start, end = found.span()
        match found.lastgroup:
            case "word":
                self._word(found[0], start, end)
            case "line":
                self._add(f"l{self._before}{self._line}z", start, end)
                self._above = self._line
                self._begin(_LINE)
            case "blank":
                self._add("blnk", start, end)
            case "url":
                self._argument("urls", "t", start, end)
            case "mail":
                self._argument("mail", "w", start, end)
            case "sign":
                self._sign(found[0], start, end)
            case "redirect":
                self._argument("rdir", "x", start, end)
            case "quote":
                self._quote(found[0], start, end)
            case _:
                self._bracket(found[0], start, end)

    def _add(self, word: str, start: int, end: int) -> None:
        self._words.append(word)
        self._places.append((start, end))

    def _begin(self, before: str) -> None:
        """A command line may begin here."""
        self._before, self._line, self._is_first = before, _NONE, True

    def _argument(self, word: str, kind: str, start: int, end: int) -> None:
        """A word that is no program."""
        self._add("x" + word if self._before == _SEPARATOR else word, start, end)
        if self._line == _DOUBTFUL:
            self._line = _COMMAND if kind in "ot" else _NONE if kind == "f" else _DOUBTFUL
        self._before, self._is_first = kind, word == "asgn" or (word == "prmt" and self._is_first)

    def _sign(self, sign: str, start: int, end: int) -> None:
        if sign == "`" and "`" in self._opened:
            self._line = self._opened.pop("`")
            self._add("tick", start, end)
            self._before, self._is_first = _CLOSED, False
            return
        line = self._above if self._before == _LINE else self._line
        if sign == "`":
            self._opened[sign] = self._line
        elif sign[-1] == "(":
            self._nested.append(self._line)
        left = "s" if self._text[start - 1 : start].isspace() else "g"
        right = "s" if self._text[end : end + 1].isspace() else "g"
        self._add(f"{_SIGNS[sign.lower()]}{self._before}{line}z{left}{right}", start, end)
        self._begin(_SEPARATOR)

    def _quote(self, quote: str, start: int, end: int) -> None:
        quote = {"\u201c": '"', "\u201d": '"'}.get(quote, quote if quote == '"' else "'")
        if quote in self._opened:
            self._add("quoc", start, end)
            self._line, self._before, self._is_first = self._opened.pop(quote), _CLOSED, False
        else:
            self._add("quoo", start, end)
            self._opened[quote] = self._line
            self._begin(_QUOTE)

    def _bracket(self, bracket: str, start: int, end: int) -> None:
        self._add(_BRACKETS[bracket], start, end)
        if bracket == "(":
            self._nested.append(self._line)
            self._begin(_BRACKET)
        elif bracket == ")":
            self._line = self._nested.pop() if self._nested else _NONE
            self._before, self._is_first = _BRACKET, False
        elif self._before != _SEPARATOR:
            self._before = _BRACKET

    def _word(self, word: str, start: int, end: int) -> None:
        core = word.rstrip(".?!,:\u2026")
        if not core and not self._text[start - 1 : start].strip():
            core = word  # by itself: a folder, not the end of a sentence
        stop = start + len(core)
        if core and not self._program(core, start, stop):
            name, kind = _shape(core)
            self._argument(name, kind, start, stop)
        if core != word:
            name, before = _ENDED.get(word[-1], ("punp", _SENTENCE))
            self._add(name, stop, end)
            if before == _COMMA:
                self._before, self._is_first = before, False
            else:
                self._begin(before)

    def _program(self, core: str, start: int, stop: int) -> bool:
        """Whether the word is a program's name, which is said if so."""
        low = core.lower()
        name = low if low.isalpha() else _FOLDER.sub("", low, count=1).removesuffix(".exe")
        kind = _KNOWN.get(name) or ("post" if "-" in name and _CMDLET.match(name) else "")
        following = self._text[stop : stop + 1]
        is_call = following == "(" and low in _RUNNING
        if not is_call and (not kind or following in ("(", ":", "=") or (core.istitle() and kind != "post")):
            return False
        if is_call:
            self._add("func" + _letters(low), start, stop)
        else:
            place = ("k" if self._before == _SEPARATOR else "b") if self._is_first else "a"
            stem = place + ("z" if name in _AMBIGUOUS else "") + kind
            self._add(stem + ("bin" if name != low and "/" in core[:1] else "") + _letters(name), start, stop)
        self._line = self._after_program(name)
        if not (self._is_first and name in _LEADING):
            self._before, self._is_first = "g", False
        return True

    def _after_program(self, name: str) -> str:
        if self._is_first and self._line != _COMMAND:
            return _DOUBTFUL if name in _AMBIGUOUS else _COMMAND
        if self._line == _NONE and name not in _AMBIGUOUS:
            return _MENTIONED
        return self._line


def _shape(core: str) -> tuple[str, str]:
    """The class of a word that is no program, and the letter that a separator behind it says."""
    low = core.lower()
    plain = low if low.isalpha() else low.replace("'", "").replace("\u2019", "")
    if plain in _STOPPING:
        return "stop" + plain, "f"
    if low in _LOOKED_AT:
        return "subc" + low, "w"
    if plain.isalpha():
        if not plain.isascii():
            return "wint", "w"
        return "wupp" if core.isupper() and len(core) > 1 else "wcap" if core[0].isupper() else "word", "w"
    for name, kind, shape in _SHAPES:
        if shape.match(low):
            return name, kind
    return "misc", "w"


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name))
