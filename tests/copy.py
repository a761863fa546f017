#!/usr/bin/env python3
"""A standby without leases copies a million from its partner over mutual TLS, while clients renew at the primary.

    tests/copy.py [RUNS]

Prints for each run how long the copy took, how long clients of the primary went without an ACK, what both servers used of
the CPU and of memory, and whether both have the same leases afterwards. Needs root, iproute2 and `cargo build --release --bins`
(`tandem pki` makes the certificates); makes and removes its own network namespaces. Nothing here passes or fails by the
clock.

Environment: LEASES (1000000), RATE (500 renewals a second), SHARDS (1), PRIMARY and STANDBY (`tandem`, or `kea` for Debian's
Kea 2.2), PAGE (`sync-page-limit`, 10000), PERF=1 (profiles of both beside the working folder), KEEP=1 (keeps that folder).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import million

RATE = int(os.environ.get("RATE", 500))
SHARDS = int(os.environ.get("SHARDS", 1))
KINDS = [os.environ.get("PRIMARY", "tandem"), os.environ.get("STANDBY", "tandem")]
PAGE = int(os.environ.get("PAGE", 10_000))
PREFIX = f"copy{os.getpid()}"
NAMES = ["primary", "standby"]
KEA_HOOKS = "/usr/lib/x86_64-linux-gnu/kea/hooks/"


class Site:
    """Namespaces of primary, standby and clients on one bridge."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="copy")
        self.spaces = [f"{PREFIX}{letter}" for letter in "psc"]
        bridge = f"{PREFIX}c"
        for space in self.spaces:
            million.run("ip", "netns", "add", space)
        million.run("ip", "-n", bridge, "link", "add", "br0", "type", "bridge")
        million.run("ip", "-n", bridge, "link", "set", "br0", "up")
        for index, space in enumerate(self.spaces[:2]):
            million.run("ip", "link", "add", "srv0", "netns", space, "type", "veth", "peer", "name", f"srv{index}", "netns", bridge)
            million.run("ip", "-n", space, "addr", "add", f"10.0.0.{index + 1}/8", "dev", "srv0")
            for name, link in ((space, "srv0"), (space, "lo"), (bridge, f"srv{index}")):
                million.run("ip", "-n", name, "link", "set", link, "up")
            million.run("ip", "-n", bridge, "link", "set", f"srv{index}", "master", "br0")
        million.run("ip", "-n", bridge, "link", "add", "cli0", "type", "veth", "peer", "name", "cli1")
        million.run("ip", "-n", bridge, "link", "set", "cli1", "master", "br0")
        for link in ("cli0", "cli1"):
            million.run("ip", "-n", bridge, "link", "set", link, "up")
        million.Site.enter(None, bridge)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.socket.bind(("cli0", 0x0800))
        words = [os.path.join(million.BIN, "tandem"), "pki", "--dir", self.path("pki")]
        for index, name in enumerate(NAMES):
            words += ["--host", f"{name}=10.0.0.{index + 1}"]
        million.run(*words)
        return self

    def __exit__(self, *_):
        self.socket.close()
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], check=False)
        if os.environ.get("KEEP"):
            print("kept:", self.folder)
        else:
            shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def configure(self, index):
        kea = KINDS[index] == "kea"
        own = self.path(NAMES[index])
        shutil.rmtree(own, ignore_errors=True)
        os.mkdir(own)
        peer = lambda number, role: {
            "name": NAMES[number], "url": f"http://10.0.0.{number + 1}:8005/", "role": role,
            "cert-file": self.path(f"pki/{NAMES[number]}_cert.pem"), "key-file": self.path(f"pki/{NAMES[number]}_key.pem")}
        relationship = {
            "this-server-name": NAMES[index], "mode": "hot-standby", "heartbeat-delay": 1000, "max-response-delay": 3000,
            "max-ack-delay": 1000, "max-unacked-clients": 0, "sync-page-limit": PAGE, "trust-anchor": self.path("pki/CA.pem"),
            "multi-threading": {"enable-multi-threading": True, "http-dedicated-listener": True,
                                "http-listener-threads": 1, "http-client-threads": 1},
            "peers": [peer(0, "primary"), peer(1, "standby")]}
        hooks = KEA_HOOKS if kea else ""
        log = {"output": os.path.join(own, "log")}
        document = {
            "interfaces-config": {"interfaces": ["srv0"]},
            "lease-database": {"type": "memfile", "name": os.path.join(own, "leases.csv"), "lfc-interval": 0},
            "control-socket": {"socket-type": "unix", "socket-name": os.path.join(own, "socket")},
            "multi-threading": {"enable-multi-threading": True, "thread-pool-size": SHARDS, "packet-queue-size": 64},
            "valid-lifetime": million.VALID_S,
            "hooks-libraries": [{"library": hooks + "libdhcp_lease_cmds.so"},
                                {"library": hooks + "libdhcp_ha.so", "parameters": {"high-availability": [relationship]}}],
            "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options" if kea else "output-options": [log]}],
            "subnet4": [{"id": 1, "subnet": "10.0.0.0/8", "interface": "srv0", "pools": [{"pool": "10.1.0.0-10.60.255.255"}]}]}
        with open(os.path.join(own, "kea-dhcp4.conf"), "w") as file:
            json.dump({"Dhcp4": document}, file)


class Server:
    """One of the pair."""

    def __init__(self, site, index):
        self.folder, self.index = site.path(NAMES[index]), index
        self.site = site
        program = "/usr/sbin/kea-dhcp4" if KINDS[index] == "kea" else os.path.join(million.BIN, "tandem-dhcp4")
        environment = os.environ | {"KEA_PIDFILE_DIR": self.folder, "KEA_LOCKFILE_DIR": self.folder}
        self.output = open(os.path.join(self.folder, "output"), "w")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", site.spaces[index], program, "-c", os.path.join(self.folder, "kea-dhcp4.conf")],
            env=environment, stdout=self.output, stderr=self.output)

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.output.close()

    def ask(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.path.join(self.folder, "socket"))
            connection.sendall(json.dumps({"command": command} | ({"arguments": arguments} if arguments else {})).encode())
            return b"".join(iter(lambda: connection.recv(1 << 20), b""))

    def state(self):
        try:
            answer = json.loads(self.ask("status-get"))
            return answer["arguments"]["high-availability"][0]["ha-servers"]["local"]["state"]
        except (OSError, ValueError, KeyError):
            return None

    def log(self):
        with open(os.path.join(self.folder, "log")) as log:
            return log.read()

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            words = stat.read().rsplit(") ", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def kib(self, key):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(key + ":"))

    def wait_for(self, state, patience=200):
        until = time.monotonic() + patience
        while self.state() != state:
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit(f"{NAMES[self.index]} is {self.state()}, not {state}:\n{self.log()[-4000:]}")
            time.sleep(0.05)


class Clients(million.Renewals):
    """Renewals, with the longest time in which no ACK came."""

    def __init__(self, site):
        super().__init__(site, RATE)
        os.sched_setaffinity(0, million.CPUS)
        self.last, self.gap = None, 0.0

    def receive(self):
        before = len(self.delays)
        super().receive()
        if len(self.delays) > before:
            now = time.monotonic()
            self.gap = max(self.gap, now - (self.last or now))
            self.last = now


def same_leases(servers):
    """How many leases both list, page by page and octet by octet; `None` if they differ."""
    after, count = "start", 0
    while True:
        pages = [server.ask("lease4-get-page", **{"from": after, "limit": 20_000}) for server in servers]
        if pages[0] != pages[1]:
            one, other = (json.loads(page)["arguments"]["leases"] for page in pages)
            differing = [pair for pair in zip(one, other) if pair[0] != pair[1]][:3]
            print(f"the leases differ after {after}: {len(one)} and {len(other)}, {differing}")
            return None
        leases = json.loads(pages[0])["arguments"]["leases"]
        count += len(leases)
        if len(leases) < 20_000:
            return count
        after = leases[-1]["ip-address"]


def copy(site):
    for index in (0, 1):
        site.configure(index)
    million.write_leases(os.path.join(site.path("primary"), "leases.csv"), extra=0)
    os.sync()
    servers = [Server(site, 0)]
    try:
        servers[0].wait_for("partner-down")
        clients = Clients(site)
        clients.run(1)
        clients.delays, clients.lost, clients.gap = [], 0, 0.0
        cpu_s = servers[0].cpu_s()
        servers.append(Server(site, 1))
        begun = time.monotonic()
        perfs = []
        if os.environ.get("PERF"):
            time.sleep(0.3)
            for server in servers:
                output = f"/tmp/copy-{NAMES[server.index]}.data"
                perfs.append(subprocess.Popen(["perf", "record", "-q", "-F", "499", "-o", output, "-p", str(server.process.pid)]))
        whole = million.every(0.1, lambda: servers[1].state() == servers[0].state() == "hot-standby")
        clients.run(200, whole)
        took = time.monotonic() - begun
        for perf in perfs:
            perf.terminate()
            perf.wait()
        cpu = [servers[0].cpu_s() - cpu_s, servers[1].cpu_s()]
        peaks = [server.kib("VmHWM") >> 10 for server in servers]
        time.sleep(1)
        copied = [line.split("HA_", 1)[1] for line in servers[1].log().splitlines() if "HA_SYNC_SUCCESSFUL" in line]
        count = same_leases(servers)
        delays = sorted(clients.delays) or [0]
        million.row(f"{took:.1f} s", f"{clients.gap:.2f} s", clients.lost, f"{delays[-1]:.0f} ms", *(f"{each:.1f} s" for each in cpu),
                    *(f"{peak} MiB" for peak in peaks), count)
        print("   ", *copied)
    finally:
        for server in servers:
            server.end()


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print(f"# {KINDS[0]} to {KINDS[1]}: {million.LEASES} leases, {SHARDS} shards each, pages of {PAGE}, {RATE} renewals a second\n")
    million.row("start of the standby to both normal", "longest time without an ACK", "requests lost", "worst ACK", "primary's CPU",
                "standby's CPU", "primary's peak", "standby's peak", "same leases on both")
    million.row(*["---"] * 9)
    with Site() as site:
        for _ in range(runs):
            copy(site)


if __name__ == "__main__":
    main()
