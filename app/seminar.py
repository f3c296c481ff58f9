"""`make seminar`: the app for a room full of people. Listens beyond this machine, and gives the presenter a code.

python -m app.seminar --port 8501 --model demo --model Qwen/Qwen2.5-0.5B --host lab.example.org
"""

import argparse
import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from app.services.server.access import CODE, MAX_CODE_CHARACTERS, MIN_CODE_CHARACTERS, MODELS, ON

SERVED = Path(__file__).parent / "server.py"
# No letters that are easily misread on a screen.
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def new_code() -> str:
    """Return a code of twelve letters and digits, 59 bits, in three groups."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(4)) for _ in range(3))


def own_addresses() -> list[str]:
    """Return the addresses and names under which others may reach this machine, the likeliest first."""
    found = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it asks which of our addresses would be used
        found.append(probe.getsockname()[0])
    return [*found, socket.gethostname(), socket.getfqdn(), "127.0.0.1", "localhost"]


def server_options(port: int, hosts: Sequence[str], listen: str) -> list[str]:
    """Return the options that override .streamlit/config.toml: the listening address, and the allowed host names."""
    options = ["--server.port", str(port), "--server.address", listen, "--server.headless", "true"]
    # Set, so that Streamlit does not ask a server on the internet for our address.
    options += ["--browser.serverAddress", hosts[0], "--browser.serverPort", str(port)]
    for host in hosts:
        options += ["--server.allowedHosts", host]
    return options


def check_port(listen: str, port: int) -> None:
    """Raise OSError if nothing can listen there."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    socket.create_server((listen, port), family=family).close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print where readers find it and the presenter's code, and become the server."""
    parser = argparse.ArgumentParser(prog="python -m app.seminar", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--listen", default="0.0.0.0", help="the address to listen at (default: all, IPv4)")
    parser.add_argument(
        "--model", action="append", default=[], help="a model that may be opened in addition to the demo"
    )
    parser.add_argument(
        "--host", action="append", default=[], help="a further name under which readers reach it"
    )
    parsed = parser.parse_args(arguments)
    given = os.environ.get(CODE, "").strip()
    if given and not MIN_CODE_CHARACTERS <= len(given) <= MAX_CODE_CHARACTERS:
        print(f"{CODE} must have {MIN_CODE_CHARACTERS} to {MAX_CODE_CHARACTERS} characters.", file=sys.stderr)
        return 2
    try:
        check_port(parsed.listen, parsed.port)
    except (OSError, OverflowError) as error:
        print(
            f"Port {parsed.port} at {parsed.listen} cannot be used ({error}): something listens there, or it is not "
            "an address of this machine. Try: make seminar PORT=8601",
            file=sys.stderr,
        )
        return 1
    code = given or new_code()
    # Where it listens at one address of IPv4, readers find it there alone.
    listening = [] if parsed.listen == "0.0.0.0" or ":" in parsed.listen else [parsed.listen]
    hosts = list(dict.fromkeys([*parsed.host, *listening, *own_addresses()]))
    print(f"Readers open        http://{hosts[0]}:{parsed.port}")
    print(f"Presenter's code    {'the one in ' + CODE if given else code}")
    print("Enter it in the side bar, before you give out the address. It is needed once for each tab.")
    print(f"Models              {', '.join(dict.fromkeys(['demo', *parsed.model]))}", flush=True)
    environment = os.environ | {ON: "1", CODE: code, MODELS: " ".join(parsed.model)}
    options = server_options(parsed.port, hosts, parsed.listen)
    command = [sys.executable, "-m", "streamlit", "run", str(SERVED), *options]
    os.execve(sys.executable, command, environment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
