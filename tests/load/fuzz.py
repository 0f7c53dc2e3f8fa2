"""Send malformed requests, and check that the service rejects them without a failure.

``make fuzz CASES=100000`` prints the number of answers by status. It ends with 1 if a status was
neither 200 nor 4xx, if a connection was cut, or if the service gave wrong answers afterwards. Every
case is determined by the seed and its number: ``--only 1234`` shows that case, and sends it alone.

Malformed gRPC calls are sent between the cases. They may be refused, but must not end other calls
or add series to the metrics.
"""

import argparse
import base64
import collections
import contextlib
import gzip
import http.client
import json
import random
import re
import select
import socket
import sys
import tempfile
import time
import urllib.parse
import zlib
from pathlib import Path

from asked import (
    JSON,
    LENGTH,
    OCTETS,
    SAFETENSORS,
    WholeConnection,
    get,
    in_json,
    in_oip,
    in_raw_body,
    in_safetensors,
    in_strings,
)
from odd_calls import OddCalls, rpc_address
from onnx import TensorProto
from onnx_models import put, unary
from processes import run, serving

PATIENCE_SECONDS = 60
BETWEEN_CHECKS = 2000
"""Number of cases between two checks with valid requests."""

BETWEEN_RENEWALS = 500

LIMITS = {
    # Small, so that what is too large is so with few bytes.
    "GATEWAVE_MAX_BODY_BYTES": "1000000",
    "GATEWAVE_MAX_ELEMENTS": "100000",
    "GATEWAVE_MAX_OUTPUT_BYTES": "4000000",
    # Less than `Announcements` would hold if a body held what its head announces.
    "GATEWAVE_MAX_MEMORY_BYTES": "60000000",
    "GATEWAVE_ACCESS_LOG": "false",
    "GATEWAVE_GRPC_PORT": "0",
}

SEEDS = (
    *(in_safetensors((2, 3), dtype) for dtype in ("float32", "float64", "float16", "bfloat16")),
    *(in_safetensors(shape) for shape in ((), (0, 3), (64,), (1, 2, 3, 4))),
    in_safetensors((5,), activation="sinc", outputs='["y", "dy_dx"]'),
    in_safetensors((5,), params='{"gate": "linear", "alpha": 1.5}', outputs='["y"]'),
    *(in_oip((2, 3), dtype, f"swiglu.{dtype}") for dtype in ("float64", "float16", "bfloat16")),
    *(in_oip(shape) for shape in ((2, 3), (), (0, 3), (64,))),
    in_oip((4,), answer_binary=False),
    in_oip((4,), binary=False),
    in_json(8),
    in_raw_body(5),
    in_strings(b"", b"plain", "ünïcödé".encode()),
)

NUMBERS = (0, 1, 2, 7, 8, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63)
"""Lengths and sizes at which programs fail; their negatives are used too."""

TEXTS = (
    *map(str, NUMBERS),
    *(f"-{number}" for number in NUMBERS[1:]),
    *("1e3", "1e400", "1.5", "null", "true", "[]", "{}", '""', "NaN", "-Infinity", "00", "0x10"),
    *("18446744073709551616", '"\\u0000"', '"\\ud800"', "[[[[]]]]", "9" * 400),
)
HEADERS = (
    *TEXTS,
    *(" 5", "5 ", "+5", "5;5", "5,5", "", "five", "5_0", "５".encode().decode("latin-1")),
)
CODINGS = ("gzip", "deflate", "identity", "br", "gzip, gzip", "GZIP", "x-gzip", "", "gzip;q=1")
UPGRADES = (
    {"Connection": "Upgrade", "Upgrade": "h2c"},
    {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"},
    {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket"},
    {"Upgrade": "x"},
    {"Connection": "upgrade"},
)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
"""Smuggled request: its answer would be read as the answer of the next case."""
TYPES = (JSON, OCTETS, SAFETENSORS, "text/plain")


class Case:
    """Malformed request, determined by the seed and the number."""

    def __init__(self, seed, number):
        self.random = random.Random(f"{seed}:{number}")  # noqa: S311 - nothing is secret
        self.number = number
        asked = self.random.choice(SEEDS)
        self.path, self.body, self.headers = asked.path, asked.body, dict(asked.headers)
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            self.random.choice(MUTATIONS)(self)
        if self.random.random() < 0.2:
            self._encode()
        if self.random.random() < 0.05:
            self._lengthen_head()

    def __str__(self):
        body = base64.b64encode(self.body).decode()
        said = f"case {self.number}: POST {self.path}\nheaders: {self.headers}"
        return f"{said}\nbody, in base64: {body}"

    def at(self, more=0):
        return self.random.randrange(len(self.body) + more) if self.body or more else 0

    def flip_bits(self):
        body = bytearray(self.body)
        for _ in range(min(len(body), self.random.choice((1, 1, 2, 8, 64)))):
            body[self.at()] ^= 1 << self.random.randrange(8)
        self.body = bytes(body)

    def set_bytes(self):
        at, count = self.at(1), self.random.choice((1, 2, 4, 8))
        self.body = self.body[:at] + self.random.randbytes(count) + self.body[at + count :]

    def cut(self):
        self.body = self.body[: self.at(1)]

    def extend(self):
        self.body += self.random.randbytes(self.random.choice((1, 3, 8, 4096)))

    def remove(self):
        begin = self.at(1)
        end = begin + self.random.choice((1, 2, 8, 64))
        self.body = self.body[:begin] + self.body[end:]

    def repeat(self):
        begin, end = sorted((self.at(1), self.at(1)))
        times = self.random.choice((2, 2, 3, 100))
        if (end - begin) * times < 1 << 21:
            self.body = self.body[:begin] + self.body[begin:end] * times + self.body[end:]

    def change_length(self):
        """Change the first eight bytes, the length of the header in safetensors."""
        number = self.random.choice((*NUMBERS, len(self.body), len(self.body) - 8))
        self.body = number.to_bytes(16, "little")[:8] + self.body[8:]

    def change_number(self):
        """Change a number in the text: a shape, an offset, a size, a value."""
        found = list(re.finditer(rb"(?<=[\[:, ])-?\d[\d.e+-]*", self.body))
        if found:
            self._replace(self.random.choice(found), self.random.choice(TEXTS))

    def change_word(self):
        """Change a quoted name or value."""
        found = list(re.finditer(rb'"[^"\\]{0,64}"', self.body))
        if found:
            word = self.random.choice((*TEXTS, self.random.choice(found)[0].decode("latin-1")))
            self._replace(self.random.choice(found), word)

    def change_header_length(self):
        told = self.headers.get(LENGTH, "")[:9]
        near = int(told) + self.random.choice((-8, -1, 1, 8)) if told.isdecimal() else 0
        self.headers[LENGTH] = self.random.choice((str(near), *HEADERS))

    def drop_header(self):
        self.headers.pop(self.random.choice((LENGTH, "Content-Type")), None)

    def change_type(self):
        self.headers["Content-Type"] = self.random.choice(TYPES)
        self.headers["Accept"] = self.random.choice((*TYPES, "*/*", "nothing", "*/*;q=x"))

    def change_path(self):
        paths = ("/activate", "/activate/batch", "/v2/models/swiglu/infer", "/v2/models/sinc/infer")
        more = ("/v2/models/swiglu/versions/1/infer", "/v2/models/none/infer")
        self.path = self.random.choice((*paths, *more, "/v2/models/swiglu/versions/x/infer"))

    def ask_for_upgrade(self):
        self.headers |= self.random.choice(UPGRADES)
        if self.random.random() < 0.5:
            self.body = SMUGGLED

    def add_fields(self):
        """Add many fields, of different names or of one name, to some object."""
        found = list(re.finditer(rb"\{", self.body))
        if found:
            count = self.random.choice((1, 2, 63, 256, 257, 5000))
            name = self.random.choice(("f%d", "f", "name", "parameters"))
            names = (name % number if "%" in name else name for number in range(count))
            self._replace(self.random.choice(found), "{" + "".join(f'"{n}":1,' for n in names))

    def add_lists(self):
        """Replace a number by many lists or objects."""
        found = list(re.finditer(rb"(?<=[\[:, ])-?\d[\d.e+-]*", self.body))
        if found:
            part = self.random.choice(("[]", "[1]", "[1],[]", "[[1,2]]", "{}", '"NaN"', '""', "1"))
            count = self.random.choice((1, 2, 256, 1024, 1025, 4097, 30_000))
            self._replace(self.random.choice(found), f"[{','.join([part] * count)}]")

    def nest(self):
        """Nest lists in lists, or objects in objects."""
        found = list(re.finditer(rb"(?<=[\[:, ])-?\d[\d.e+-]*", self.body))
        if found:
            depth = self.random.choice((1, 15, 16, 17, 63, 64, 65, 500, 1024, 1025, 20_000))
            opening, closing = self.random.choice((("[", "]"), ('{"a":', "}"), ("[", "")))
            leaf = self.random.choice(("1", "NaN", "", '"x"'))
            self._replace(self.random.choice(found), opening * depth + leaf + closing * depth)

    def send_whole(self):
        """Send a raw binary request."""
        self.headers[LENGTH] = "0"
        self.body = self.random.randbytes(self.random.choice((0, 1, 4, 8, 40, 4096, 400_004)))
        models = ("sinc", "swiglu", "words", "sinc.grad.float16")
        self.path = f"/v2/models/{self.random.choice(models)}/infer"

    def send_strings(self):
        """Send many raw BYTES, with the count of the shape or another one."""
        count = self.random.choice((0, 1, 2, 1000, 50_000))
        item = self.random.choice((b"", b"a", b"\xff", "é".encode(), b"\0" * 100))
        items = [item] * min(count, 400_000 // (4 + len(item)))
        told = self.random.choice((None, None, 0, 1, len(items) + 1, 100_001, 2**40))
        asked = in_strings(*items, count=told, model=self.random.choice(("words", "sinc")))
        self.path, self.body, self.headers = asked.path, asked.body, dict(asked.headers)

    def _replace(self, match, text):
        new = text.encode("latin-1")
        self.body = self.body[: match.start()] + new + self.body[match.end() :]
        if self.random.random() < 0.7:
            self._mend(len(new) - len(match[0]), match.start())

    def _mend(self, longer, at):
        """Correct the stated length of the header, which lets the service read beyond it."""
        told = self.headers.get(LENGTH, "")
        if told.isdecimal() and len(told) < 10:
            self.headers[LENGTH] = str(int(told) + longer)
        elif "safetensors" in self.headers.get("Content-Type", "") and at >= 8:
            length = int.from_bytes(self.body[:8], "little") + longer
            self.body = (length % 2**64).to_bytes(8, "little") + self.body[8:]

    def _encode(self):
        coding = self.random.choice(("gzip", "deflate"))
        self.body = gzip.compress(self.body, 1) if coding == "gzip" else zlib.compress(self.body, 1)
        self.headers["Content-Encoding"] = coding
        if self.random.random() < 0.5:
            self.random.choice((Case.flip_bits, Case.cut, Case.extend, Case.change_coding))(self)

    def _lengthen_head(self):
        """Add headers near the limits of their number and size, and keep only a small body.

        The service may close a connection before it reads a long body; the client reports an error
        then.
        """
        self.body = self.body[:4096]
        long = "x" * self.random.choice((1, 1000, 32_000, 65_000, 65_536, 70_000))
        match self.random.choice(("many", "long", "path")):
            case "many":
                count = self.random.choice((1, 100, 120, 128, 129, 500))
                self.headers |= {f"X-{number}": "v" for number in range(count)}
            case "long":
                self.headers["X-Long"] = long
            case "path":
                self.path += f"{self.random.choice('?/')}{long}"

    def change_coding(self):
        self.headers["Content-Encoding"] = self.random.choice(CODINGS)


MUTATIONS = (
    Case.flip_bits,
    Case.set_bytes,
    Case.cut,
    Case.extend,
    Case.remove,
    Case.repeat,
    Case.change_length,
    *[Case.change_number] * 4,
    *[Case.change_word] * 2,
    *[Case.change_header_length] * 2,
    Case.drop_header,
    Case.change_type,
    Case.change_path,
    Case.ask_for_upgrade,
    Case.add_fields,
    Case.add_lists,
    Case.nest,
    Case.send_whole,
    Case.send_strings,
)


class Broken(Exception):  # noqa: N818 - what is broken is a promise
    """The service broke a promise."""


class Announcements:
    """Connections that announce long bodies, and send a small part of them."""

    COUNT = 24
    LENGTH = "Content-Length: 1000000"
    FIELDS = (
        ("/activate", f"{LENGTH}\r\n\r\n{{"),
        ("/v2/models/swiglu/infer", f"{LENGTH}\r\n\r\n"),
        ("/activate", f"Content-Type: {SAFETENSORS}\r\n{LENGTH}\r\n\r\n"),
        ("/activate", "Transfer-Encoding: chunked\r\n\r\nf4240\r\n{"),
    )

    def __init__(self, url):
        address = urllib.parse.urlsplit(url)
        self.address = address.hostname, address.port
        self.open = {}

    def renew(self):
        """Reopen connections that the service has closed or answered."""
        for number in range(self.COUNT):
            if number not in self.open or select.select([self.open[number]], [], [], 0)[0]:
                if number in self.open:
                    self.open[number].close()
                self.open[number] = socket.create_connection(self.address, PATIENCE_SECONDS)
                path, rest = self.FIELDS[number % len(self.FIELDS)]
                asked = f"POST {path} HTTP/1.1\r\nHost: x\r\n{rest}"
                self.open[number].sendall(asked.encode())

    def close(self):
        for connection in self.open.values():
            connection.close()


class Connection:
    """Connection that is kept until the service closes it."""

    def __init__(self, url):
        address = urllib.parse.urlsplit(url)
        self.http = WholeConnection(address.hostname, address.port, timeout=PATIENCE_SECONDS)

    def ask(self, method, path, body, headers):
        """Return the status, media type and body of the answer.

        Raises:
            Broken: The request was not answered.
        """
        try:
            self.http.request(method, path, body, headers)
            with self.http.getresponse() as response:
                kind = response.headers.get("content-type", "")
                return response.status, kind.partition(";")[0], response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"no answer: {error!r}") from error

    def close(self):
        self.http.close()


def check(case, status, kind, body):
    """Check that an answer is valid in the protocols.

    Raises:
        Broken: It is not valid.
    """
    if status != http.HTTPStatus.OK and not 400 <= status < 500:
        raise Broken(f"status {status}: {body[:500]!r}")
    if status == http.HTTPStatus.OK:
        return
    document = json.loads(body)
    if case.path.startswith("/v2"):
        if kind != "application/json" or document.keys() != {"error"}:
            raise Broken(f"not an error of the inference protocol: {kind} {body[:500]!r}")
    elif kind != "application/problem+json" or document["status"] != status:
        raise Broken(f"not a problem document: {kind} {body[:500]!r}")


def see_it_live(connection):
    """Check that valid requests get correct answers.

    Raises:
        Broken: An answer is wrong.
    """
    upgrades = [asked.but(headers=asked.headers | UPGRADES[1]) for asked in SEEDS]
    for asked in (*SEEDS, *upgrades, get("/livez"), get("/readyz")):
        status, _, body = connection.ask(asked.method, asked.path, asked.body, asked.headers)
        if status != http.HTTPStatus.OK:
            raise Broken(f"{asked.method} {asked.path} is answered with {status}: {body[:500]!r}")


def fuzz(server, cases, seed):
    """Send the ``cases``, and return the number of answers by status.

    Raises:
        Broken: The service broke a promise; the message contains the case.
    """
    seen = collections.Counter()
    with (
        contextlib.closing(Connection(server.url)) as connection,
        contextlib.closing(Announcements(server.url)) as announcements,
    ):
        odd = OddCalls(rpc_address(server), seed)
        for count, number in enumerate(cases, 1):
            if count % BETWEEN_RENEWALS == 1:
                announcements.renew()
                odd.burst()
            seen[_tried(connection, Case(seed, number), seed)] += 1
            if count % BETWEEN_CHECKS == 0:
                see_it_live(connection)
                print(f"{count} cases: {dict(sorted(seen.items()))}", file=sys.stderr, flush=True)
        see_it_live(connection)
        if wrong := odd.wrong(server.url):
            raise Broken(wrong)
    if server.process.poll() is not None:
        raise Broken("the service ended")
    return seen


def _tried(connection, case, seed):
    """Send ``case``, and return the status of the answer."""
    try:
        status, kind, body = connection.ask("POST", case.path, case.body, case.headers)
        check(case, status, kind, body)
    except (Broken, ValueError) as error:
        raise Broken(f"{error}\nseed {seed}, {case}") from error
    return status


@contextlib.contextmanager
def serving_to_fuzz(artifacts, folder):
    """Run a service with small limits, and a model of strings in the repository ``folder``."""
    put(folder, "words", "1", unary("Identity", ["n"], TensorProto.STRING))
    with serving(artifacts, GATEWAVE_REPOSITORY=str(folder), **LIMITS) as server:
        with contextlib.closing(Connection(server.url)) as connection:
            until = time.monotonic() + PATIENCE_SECONDS
            while connection.ask("GET", "/v2/models/words/ready", b"", {})[0] != http.HTTPStatus.OK:
                if time.monotonic() > until:
                    raise Broken("the model of strings is not ready")
                time.sleep(0.05)
        yield server


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one case, to send that alone")
    options = parser.parse_args()
    cases = range(options.cases) if options.only is None else [options.only]
    if options.only is not None:
        print(Case(options.seed, options.only))
    with tempfile.TemporaryDirectory() as folder:
        artifacts, repository = Path(folder) / "artifacts", Path(folder) / "repository"
        repository.mkdir()
        run("export", "--output", artifacts).check_returncode()
        with serving_to_fuzz(artifacts, repository) as server:
            try:
                seen = fuzz(server, cases, options.seed)
            except Broken as error:
                print(f"BROKEN: {error}")
                return 1
    print(f"{seen.total()} cases, and every answer was 200 or 4xx: {dict(sorted(seen.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
