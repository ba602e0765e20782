#!/usr/bin/env python3
"""The counter in plain Python, live: the program's side of docs/handoff.md without any library of ours."""

import fcntl
import json
import os
import select
import socket
import sys
import time

SEALED = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
PACKET, PACKET_DESCRIPTORS = 64 * 1024, 250
VERSION = sys.argv[1] if len(sys.argv) > 1 else "1"
SCHEMA = int(sys.argv[2]) if len(sys.argv) > 2 else 1


# --- the protocol ---------------------------------------------------------------------------------------------------


class Agent:
    """The connection to the agent; without one this program is never asked for anything."""

    def __init__(self):
        self.path = os.environ.get("DROVER_HANDOFF")
        self.token = os.environ.get("DROVER_HANDOFF_TOKEN")
        self.socket = None
        self.again_at = 0.0

    def dial(self, serving):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.connect(self.path)
        self.socket = link
        self.say({"say": "hello", "protocol": 1, "token": self.token, "serving": serving})

    def keep_in_touch(self):
        if self.path and not self.socket and time.monotonic() >= self.again_at:
            self.again_at = time.monotonic() + 0.2
            try:
                self.dial(True)
            except OSError:
                self.socket = None

    def say(self, message, descriptors=()):
        socket.send_fds(self.socket, [json.dumps(message).encode()], descriptors)

    def hear(self, seconds=None):
        """The next message and its descriptors; (None, []) if the agent has hung up or says nothing in time."""
        self.socket.settimeout(seconds)
        try:
            text, descriptors, _, _ = socket.recv_fds(self.socket, PACKET, PACKET_DESCRIPTORS)
        except OSError:
            return None, []
        if not text:
            self.socket.close()
            self.socket = None
            return None, []
        return json.loads(text), list(descriptors)


def resume_or_commit(verdict):
    """Decides to resume unless something is decided; whether the old program goes on."""
    try:
        fcntl.fcntl(verdict, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK)
        return True
    except PermissionError:
        return not fcntl.fcntl(verdict, fcntl.F_GET_SEALS) & fcntl.F_SEAL_GROW


def take_over(agent):
    """What the version before gives: its state and its descriptors. Nothing may be touched before `serve`."""
    agent.dial(False)
    descriptors = []
    while True:
        message, arrived = agent.hear()
        if message is None:
            sys.exit("the agent has hung up")
        if message["say"] == "descriptors":
            descriptors += arrived
        elif message["say"] == "take":
            memory, verdict = arrived
            state = json.loads(os.pread(memory, message["length"], 0))
            os.close(memory)
            return state, descriptors, message, verdict


def serve_when_told(agent, take, verdict):
    """On return this program serves, and nobody else."""
    agent.say({"say": "alive", "update": take["update"]})
    agent.hear(take["hold_ms"] / 1000)
    if resume_or_commit(verdict):
        sys.exit("not wanted")
    os.close(verdict)
    if agent.socket:
        agent.say({"say": "serving", "update": take["update"], "began_ns": time.monotonic_ns()})


def give(agent, prepare, verdict, state, descriptors):
    """Gives everything; whether this program is to end. It stands still meanwhile because it does nothing else."""
    update, stopped_ns = prepare["update"], time.monotonic_ns()
    text = json.dumps(state).encode()
    memory = os.memfd_create("state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(memory, text)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALED)
    try:
        for first in range(0, len(descriptors), PACKET_DESCRIPTORS):
            agent.say({"say": "descriptors", "update": update}, descriptors[first : first + PACKET_DESCRIPTORS])
        ready = {"say": "ready", "update": update, "schema": SCHEMA, "length": len(text)}
        ready |= {"descriptors": len(descriptors), "stopped_ns": stopped_ns}
        agent.say(ready, [memory])
    except OSError:
        pass
    os.close(memory)
    patience = prepare["hold_ms"] / 1000
    while True:
        message, _ = agent.hear(patience)
        if message and message.get("say") == "resume":
            return False
        if message and message.get("say") != "released":
            continue
        if resume_or_commit(verdict):
            return False
        if message or not agent.socket:
            return True
        patience = None  # It is decided, and the agent is there: only it can know better.


# --- the counter ----------------------------------------------------------------------------------------------------


class Counter:
    def __init__(self, state=None, descriptors=()):
        if state is None:
            self.total, self.clients = 0, {}
            self.listener = socket.create_server(("127.0.0.1", int(os.environ.get("COUNTER_PORT", "8090"))))
        else:
            sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            self.total, self.listener = state["total"], sockets[state["listener"]]
            self.clients = {sockets[client["stream"]]: client for client in state["clients"]}
        self.listener.setblocking(False)
        for client in self.clients:
            client.setblocking(False)

    def state(self):
        """The same layout as version 1 in Rust: each can take over from the other."""
        clients = [client | {"stream": number} for number, client in enumerate(self.clients.values(), 1)]
        return {"total": self.total, "listener": 0, "clients": clients}, [
            sock.fileno() for sock in [self.listener, *self.clients]
        ]

    def work(self, readable, writable):
        if self.listener in readable:
            try:
                stream, _ = self.listener.accept()
                stream.setblocking(False)
                self.clients[stream] = {"total": 0, "lines": {"input": [], "output": []}}
            except BlockingIOError:
                pass
        for stream in [stream for stream in self.clients if stream in readable or stream in writable]:
            if not self.serve(stream, self.clients[stream]):
                del self.clients[stream]
                stream.close()

    def serve(self, stream, client):
        lines = client["lines"]
        try:
            arrived = stream.recv(4096)
            if not arrived:
                return False
            lines["input"] += arrived
        except BlockingIOError:
            pass
        except OSError:
            return False
        while 10 in lines["input"]:
            end = lines["input"].index(10) + 1
            line, lines["input"] = bytes(lines["input"][:end]), lines["input"][end:]
            number = int(line.strip() or 0)
            client["total"] += number
            self.total += number
            lines["output"] += f"{VERSION} {client['total']} {self.total}\n".encode()
        if lines["output"]:
            try:
                sent = stream.send(bytes(lines["output"]))
                lines["output"] = lines["output"][sent:]
            except BlockingIOError:
                pass
            except OSError:
                return False
        return True


def main():
    agent = Agent()
    if os.environ.get("DROVER_HANDOFF_ROLE") == "successor":
        state, descriptors, take, verdict = take_over(agent)
        counter = Counter(state, descriptors)
        serve_when_told(agent, take, verdict)
    else:
        counter = Counter()
    while True:
        agent.keep_in_touch()
        watched = [counter.listener, *counter.clients] + ([agent.socket] if agent.socket else [])
        waiting = [stream for stream, client in counter.clients.items() if client["lines"]["output"]]
        readable, writable, _ = select.select(watched, waiting, [], 0.2)
        if agent.socket in readable:
            message, arrived = agent.hear(0)
            if message and message.get("say") == "prepare" and give(agent, message, arrived[0], *counter.state()):
                return
            for descriptor in arrived:
                os.close(descriptor)
        counter.work(readable, writable)


if __name__ == "__main__":
    main()
