#!/usr/bin/env python3
"""Records what a client asks of a server: tests/compat/replay/README.md says how.

    record.py PORT_OF_THE_SERVER FILE 'TITLE'    listens on a free port of 127.0.0.1, prints it, ends with its input

Stands between a client and our server (plain HTTP/1.1 both ways), passes every byte on, and writes the requests
to FILE in the order in which they began, with what the replay needs: method, path, the headers that matter, the
body, the code and type of the answer, and where values that the server made up (uid, resourceVersion, continue)
were first seen, so that a later request may name them. What follows an upgrade is written as the client sent it.
"""

import base64
import json
import re
import socket
import sys
import threading

KEPT = ("accept", "content-type", "user-agent", "upgrade", "connection", "x-stream-protocol-version",
        "sec-websocket-protocol", "sec-websocket-version", "sec-websocket-key", "content-encoding")
MADE_UP = ("uid", "resourceVersion", "continue")


class Reader:
    """Bytes of a socket, by line and by count; keeps what it has not given yet."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""

    def fill(self):
        try:
            more = self.sock.recv(65536)
        except OSError:
            more = b""
        self.buffer += more
        return bool(more)

    def until(self, end):
        while end not in self.buffer:
            if not self.fill():
                return None
        at = self.buffer.index(end) + len(end)
        out, self.buffer = self.buffer[:at], self.buffer[at:]
        return out

    def exactly(self, count):
        while len(self.buffer) < count:
            if not self.fill():
                return None
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out

    def rest(self):
        """What is here, or comes next; empty at the end."""
        if not self.buffer:
            self.fill()
        out, self.buffer = self.buffer, b""
        return out


def fields_of(head):
    out = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            out[name.strip().lower().decode()] = value.strip().decode()
    return out


class Recording:
    def __init__(self):
        self.lock, self.exchanges = threading.Lock(), []

    def begin(self, exchange):
        with self.lock:
            self.exchanges.append(exchange)

    def text(self, title):
        out, seen = ["# " + title], {}
        for one in self.exchanges:
            # A document of types by its hash: whatever that is today, the same is asked for.
            out += ["", "> %s %s" % (one["method"], re.sub("hash=[0-9A-F]+&?", "", one["target"]))]
            for name in KEPT:
                if name in one["fields"] and not (name == "connection" and "upgrade" not in one["fields"]):
                    out.append("%s: %s" % (name, one["fields"][name]))
            if one["body"]:
                out.append(written(one["body"]))
            if one.get("after"):
                out.append("then: " + base64.b64encode(one["after"]).decode())
            out.append("< %s %s" % (one.get("code", 0), one.get("type", "").split(";")[0]))
            if "watch=" in one["target"]:  # how much of it the client saw
                out += ["<   ?"] * one.get("answer", b"").count(b"\n")
            for value, pointer in made_up(one.get("answer", b"")):
                if value not in seen:
                    seen[value] = True
                    out.append("= %s %s" % (value, pointer))
        return "\n".join(out) + "\n"


def written(body):
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "base64: " + base64.b64encode(body).decode()
    if all(c >= " " or c == "\n" for c in text) and not text.startswith("k8s\0"):
        return "\n".join("| " + line for line in text.split("\n"))
    return "base64: " + base64.b64encode(body).decode()


def made_up(answer):
    """(value, line and pointer) of what a server makes up, in an answer of JSON documents, one a line."""
    out = []

    def walk(node, line, pointer):
        if isinstance(node, dict):
            for key, value in node.items():
                here = pointer + "/" + key.replace("~", "~0").replace("/", "~1")
                if key in MADE_UP and isinstance(value, str) and value not in ("", "0"):
                    out.append((value, "%d %s" % (line, here)))
                elif key != "managedFields":
                    walk(value, line, here)
        elif isinstance(node, list):
            for index, value in enumerate(node):
                walk(value, line, "%s/%d" % (pointer, index))

    for number, line in enumerate(answer.split(b"\n")):
        try:
            walk(json.loads(line), number, "")
        except ValueError:
            continue
    return out


def read_body(reader, fields, passed_on, until_end=False):
    """Passes a body on as it is, and returns it decoded."""
    if "chunked" in fields.get("transfer-encoding", ""):
        body = b""
        while True:
            line = reader.until(b"\r\n")
            if line is None or not passed_on(line):
                return body
            size = int(line.split(b";")[0], 16)
            data = reader.exactly(size + 2)
            if data is None or not passed_on(data):
                return body
            if size == 0:
                return body
            body += data[:size]
    length = int(fields.get("content-length", 0))
    if "content-length" in fields or not until_end:
        body = reader.exactly(length) or b""
        passed_on(body)
        return body
    body = b""
    while True:
        data = reader.rest()
        if not data or not passed_on(data):
            return body
        body += data


def sender(sock):
    def passed_on(data):
        try:
            sock.sendall(data)
            return True
        except OSError:
            return False
    return passed_on


def pump(reader, sock, kept=None):
    while True:
        data = reader.rest()
        if not data:
            break
        if kept is not None:
            kept["after"] = kept.get("after", b"") + data
        if not sender(sock)(data):
            break
    for end in (reader.sock, sock):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def watch_client(client, server):
    """A client that goes away while it watches ends the exchange."""
    try:
        if client.recv(1, socket.MSG_PEEK) == b"":
            server.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def serve(client, port, recording):
    server = socket.create_connection(("127.0.0.1", port))
    from_client, from_server = Reader(client), Reader(server)
    while True:
        head = from_client.until(b"\r\n\r\n")
        if head is None:
            break
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ", 2)
        exchange = {"method": method, "target": target, "fields": fields_of(head), "body": b""}
        recording.begin(exchange)
        # Packed answers are of no use here.
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"accept-encoding:")]
        server.sendall(b"\r\n".join(lines))
        exchange["body"] = read_body(from_client, exchange["fields"], sender(server))
        if "watch=" in target:
            threading.Thread(target=watch_client, args=(client, server), daemon=True).start()
        answer = from_server.until(b"\r\n\r\n")
        if answer is None:
            break
        exchange["code"] = int(answer.split(b" ")[1])
        fields = fields_of(answer)
        exchange["type"] = fields.get("content-type", "")
        client.sendall(answer)
        if exchange["code"] == 101:
            back = threading.Thread(target=pump, args=(from_server, client), daemon=True)
            back.start()
            pump(from_client, server, exchange)
            back.join()
            break
        if method == "HEAD" or exchange["code"] in (204, 304):
            continue
        exchange["answer"] = read_body(from_server, fields, sender(client), until_end=True)
    for end in (client, server):
        end.close()


def main():
    port, path, title = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    recording = Recording()
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, port, recording), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
    with open(path, "w") as out:
        out.write(recording.text(title))


main()
