"""Log lines like those of an OpenSSH server that strangers try to enter.

The wording of the messages is OpenSSH's and PAM's; hosts, users, addresses and times are drawn. Connections
are drawn one by one and written out as the few lines that each leaves, so that kinds of lines occur as
often, and with as many lines that are nearly the same, as in a server's own log.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np

from tools.lookalikes.templates import Rng, filled, pick

STRANGERS = 30  # addresses
ZIPF = 1.4  # exponent of Zipf's law, by which a few of them make most of the connections
VISIT = 12  # connections that follow each other, on average
HABIT = 4.0  # concentration of the kinds of connections that one makes (Dirichlet): less is fewer kinds
SERVER = "gate"

_PEER = "logname= uid=0 euid=0 tty=ssh ruser= rhost={host}"
MESSAGES = {
    "invalid": "Invalid user {guess} from {ip}",
    "request": "input_userauth_request: invalid user {guess} [preauth]",
    "check": "pam_unix(sshd:auth): check pass; user unknown",
    "unknown": "pam_unix(sshd:auth): authentication failure; " + _PEER + " ",
    "wrong": "Failed password for invalid user {guess} from {ip} port {port} ssh2",
    "none": "Failed none for invalid user {guess} from {ip} port {port} ssh2",
    "failure": "pam_unix(sshd:auth): authentication failure; " + _PEER + "  user={known}",
    "failed": "Failed password for {known} from {ip} port {port} ssh2",
    "repeated": "message repeated {tries} times: [ Failed password for {known} from {ip} port {port} ssh2]",
    "more": "PAM {tries} more authentication failures; " + _PEER + "  user={known}",
    "retries": "PAM service(sshd) ignoring max retries; 6 > 3",
    "toomany": "Disconnecting: Too many authentication failures for {known} [preauth]",
    "methods": "error: Received disconnect from {ip}: 14: No more user authentication methods available."
    " [preauth]",
    "bye": "Received disconnect from {ip}: 11: Bye Bye [preauth]",
    "closed": "Connection closed by {ip} [preauth]",
    "reverse": "reverse mapping checking getaddrinfo for {name} [{ip}] failed - POSSIBLE BREAK-IN ATTEMPT!",
    "silent": "Did not receive identification string from {ip}",
    "accepted": "Accepted password for {member} from {ip} port {port} ssh2",
    "opened": "pam_unix(sshd:session): session opened for user {member} by (uid=0)",
    "left": "Received disconnect from {ip}: 11: disconnected by user",
    "ended": "pam_unix(sshd:session): session closed for user {member}",
}
# How often a kind of connection is made, and the messages that it leaves.
CONNECTIONS = (
    (0.56, "failure failed bye"),
    (0.10, "invalid request check unknown wrong bye"),
    (0.11, "reverse invalid request check unknown wrong bye"),
    (0.05, "invalid request check unknown wrong closed"),
    (0.06, "invalid request check unknown wrong methods"),
    (0.02, "invalid request check unknown wrong check wrong check wrong closed"),
    (0.03, "failure failed repeated closed more"),
    (0.02, "failure failed repeated toomany more retries"),
    (0.02, "silent"),
    (0.02, "invalid request none closed"),
    (0.01, "accepted opened left ended"),
)
KNOWN_ROOT = 0.9  # how often the user that is known to the server is root
VOCABULARY = """
known mail backup www-data daemon
member miriam tobias deploy
guess admin test guest oracle user ubuntu pi support info web service postgres hadoop nagios tomcat jenkins
guess demo student temp office sales dev1 dev2 test1 test2 admin1 operator teamspeak minecraft vagrant ansible
guess git0 alice bob carlos david elena fatima george helen ivan julia kevin lucas maria nina paul robert
domain example.com example.net example.org dsl.example.net static.example.com
"""
WORDS: dict[str, list[str]] = {}
for kind, *words in map(str.split, VOCABULARY.strip().splitlines()):
    WORDS.setdefault(kind, []).extend(words)


def lines(count: int, seed: int = 0) -> list[str]:
    """`count` different lines of one server's log, in order of time."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    for line in _log(rng):
        found.setdefault(line)
        if len(found) == count:
            break
    return list(found)


def _log(rng: Rng) -> Iterator[str]:
    """Lines without end."""
    strangers = [_stranger(rng) for _ in range(STRANGERS)]
    often = np.arange(1, STRANGERS + 1) ** -ZIPF
    shares = np.array([share for share, _ in CONNECTIONS])
    habits = rng.dirichlet(HABIT * shares / shares.sum(), STRANGERS)
    now = datetime(2024, 1, 1) + timedelta(days=int(rng.integers(300)), seconds=int(rng.integers(86400)))
    process = int(rng.integers(2_000, 30_000))
    while True:
        who = int(rng.choice(STRANGERS, p=often / often.sum()))
        now += timedelta(seconds=float(rng.exponential(120)))
        for _ in range(rng.geometric(1 / VISIT)):
            _, messages = CONNECTIONS[rng.choice(len(CONNECTIONS), p=habits[who])]
            values = strangers[who] | _attempt(rng)
            process += int(rng.integers(1, 3))
            for message in messages.split():
                now += timedelta(seconds=float(rng.exponential(1)))
                stamp = f"{now:%b} {now.day:2d} {now:%H:%M:%S}"
                yield f"{stamp} {SERVER} sshd[{process}]: {filled(MESSAGES[message], values)}"


def _stranger(rng: Rng) -> dict[str, str]:
    """Somebody's address, the name that it claims, and what the log has for it."""
    octets = rng.integers(1, 255, 4)
    ip = ".".join(map(str, octets))
    name = f"host-{'-'.join(map(str, octets))}.{pick(WORDS['domain'], rng)}"
    return {"ip": ip, "name": name, "host": name if rng.random() < 0.05 else ip}


def _attempt(rng: Rng) -> dict[str, str]:
    """What changes from one connection to the next."""
    return {
        "port": str(rng.integers(32_768, 61_000)),
        "tries": str(rng.integers(2, 6)),
        "known": "root" if rng.random() < KNOWN_ROOT else pick(WORDS["known"], rng),
        "member": pick(WORDS["member"], rng),
        "guess": pick(WORDS["guess"], rng),
    }
