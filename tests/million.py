#!/usr/bin/env python3
"""A million leases: memory, start, clean-up under load, huge pools. Prints a small table of what it measures.

    tests/million.py [WHAT...]

WHAT is any of `start`, `clean-up`, `commands`, `expiry`, `slash8`, `rate` (all of them where none is named). Needs root, iproute2
and `cargo build --release --bins`; makes and removes its own network namespaces. Nothing here passes or fails by the clock: it
prints numbers, each the median of RUNS runs, and fails only when a server does not answer.

Environment: RUNS (3), SHARDS ("1 4"), LEASES (1000000), EXTRA (500000 rows that renew leases of the file again), ORDER
(`sorted`: as a clean-up leaves it, renewals behind; `shuffled`: all rows in any order), COLD=1 (the file is not in the page
cache), RATE (2000 renewals a second), BIN (folder of the programs), KEEP=1 (keeps the folder). Where there are several CPUs the
server has the first ones and this program the last one.
"""

import ctypes
import json
import os
import random
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
HEADER = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id\n"
PREFIX = f"million{os.getpid()}"
BIN = os.environ.get("BIN") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "../target/release")
RUNS = int(os.environ.get("RUNS", 3))
SHARDS = [int(word) for word in os.environ.get("SHARDS", "1 4").split()]
LEASES = int(os.environ.get("LEASES", 1_000_000))
EXTRA = int(os.environ.get("EXTRA", LEASES // 2))
CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPUS = CPUS[:-1] or CPUS
RATE = int(os.environ.get("RATE", 2000))
FIRST = 0x0A010000
VALID_S = 86_400


def address_of(number):
    return socket.inet_ntoa(struct.pack("!I", FIRST + number))


def hwaddr_of(number):
    """Spread over all octets, as vendors' addresses are."""
    return b"\x02" + ((number * 0x9E3779B1) & 0xFFFFFFFF).to_bytes(4, "big") + bytes([number & 0xFF])


def row_of(number, expire):
    hwaddr = hwaddr_of(number).hex(":")
    client_id = f"01:{hwaddr}" if number % 2 == 0 else ""
    hostname = f"host-{number:07}.example.org" if number % 3 == 0 else ""
    return f"{address_of(number)},{hwaddr},{client_id},{VALID_S},{expire},1,0,0,{hostname},0,,0\n"


def write_leases(path, leases=LEASES, extra=EXTRA, order=None, expires_in=(VALID_S // 2, VALID_S)):
    """A lease file of `leases` leases in `leases + extra` rows."""
    drawn = random.Random(7)
    now = int(time.time())
    rows = [row_of(number, now + drawn.randint(*expires_in)) for number in range(leases)]
    rows += [row_of(drawn.randrange(leases), now + expires_in[1]) for _ in range(extra)] if leases else []
    if (order or os.environ.get("ORDER", "sorted")) == "shuffled":
        drawn.shuffle(rows)
    with open(path, "w") as file:
        file.write(HEADER)
        file.writelines(rows)
        file.flush()
        os.fsync(file.fileno())


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


class Site:
    """A server's namespace and a client's, joined by a veth pair; this process lives in the server's."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="million")
        self.server, self.client = f"{PREFIX}s", f"{PREFIX}c"
        for name in (self.server, self.client):
            run("ip", "netns", "add", name)
        run("ip", "link", "add", "srv0", "netns", self.server, "type", "veth", "peer", "name", "cli0", "netns", self.client)
        for name, link, address in ((self.server, "srv0", "10.0.0.1/8"), (self.client, "cli0", "10.0.0.9/8")):
            run("ip", "-n", name, "addr", "add", address, "dev", link)
            run("ip", "-n", name, "link", "set", link, "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        self.enter(self.client)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.socket.bind(("cli0", 0x0800))
        self.enter(self.server)
        return self

    def enter(self, name):
        with open(f"/var/run/netns/{name}") as namespace:
            if LIBC.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"entering {name}")

    def __exit__(self, *_):
        self.socket.close()
        for name in (self.server, self.client):
            subprocess.run(["ip", "netns", "del", name], check=False)
        if os.environ.get("KEEP"):
            print("kept:", self.folder)
        else:
            shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def configure(self, shards, pool="10.1.0.0-10.60.255.255", **settings):
        document = {
            "interfaces-config": {"interfaces": ["srv0"]},
            "lease-database": {"type": "memfile", "name": self.path("leases.csv"), "lfc-interval": 0} | settings.pop("database", {}),
            "control-socket": {"socket-type": "unix", "socket-name": self.path("socket")},
            "multi-threading": {"enable-multi-threading": True, "thread-pool-size": shards, "packet-queue-size": 64},
            "valid-lifetime": VALID_S,
            "cache-threshold": 0.0,
            "hooks-libraries": [{"library": "libdhcp_lease_cmds.so"}],
            "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output-options": [{"output": self.path("log")}]}],
            "subnet4": [{"id": 1, "subnet": "10.0.0.0/8", "interface": "srv0", "pools": [{"pool": pool}]}],
        } | settings
        with open(self.path("kea-dhcp4.conf"), "w") as file:
            json.dump({"Dhcp4": document}, file)


class Server:
    """A server of a site, from its first instant."""

    def __init__(self, site, cpus=None):
        self.site = site
        if os.path.exists(site.path("log")):
            os.remove(site.path("log"))
        environment = os.environ | {"KEA_PIDFILE_DIR": site.folder, "KEA_LOCKFILE_DIR": site.folder}
        self.output = open(site.path("output"), "w")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [os.path.join(BIN, "tandem-dhcp4"), "-c", site.path("kea-dhcp4.conf")],
            env=environment, stdout=self.output, stderr=self.output,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus or CPUS))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.output.close()

    def kib(self, key):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(rf"^{key}:\s+(\d+) kB", status.read(), re.M)[1])

    def log(self, pattern):
        with open(self.site.path("log")) as log:
            return re.findall(pattern, log.read())

    def ask(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.site.path("socket"))
            connection.sendall(json.dumps({"command": command} | ({"arguments": arguments} if arguments else {})).encode())
            answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        return json.loads(answer)

    def wait_until_served(self, known=None, patience=60):
        """Asks every 2 ms, as a client without a lease and as the one with lease `known`; seconds to the first answer (with
        `known`: to its ACK)."""
        frames = [discover(hwaddr_of(0x7FFF0000)) if known is None else init_reboot(hwaddr_of(known), address_of(known), known)]
        wanted = 2 if known is None else 5
        self.site.socket.settimeout(0.002)
        while time.monotonic() - self.started < patience:
            for frame in frames:
                self.site.socket.send(frame)
            until = time.monotonic() + 0.002
            while time.monotonic() < until:
                try:
                    answer = self.site.socket.recv(2048)
                except TimeoutError:
                    break
                if message_type(answer) == wanted:
                    return time.monotonic() - self.started
            if self.process.poll() is not None:
                break
        sys.exit(f"the server does not answer: {open(self.site.path('output')).read()}")


def checksum(octets):
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(hwaddr, options, xid):
    bootp = struct.pack("!BBBBIHH16s16s", 1, 1, 6, 0, xid, 0, 0x8000, b"", hwaddr) + bytes(192) + b"\x63\x82\x53\x63"
    payload = bootp + options + b"\xff"
    payload += bytes(max(0, 300 - len(payload)))
    udp = struct.pack("!HHHH", 68, 67, 8 + len(payload), 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return b"\xff" * 6 + hwaddr + b"\x08\x00" + ip + udp + payload


def option(code, octets):
    return bytes([code, len(octets)]) + octets


def discover(hwaddr, xid=1):
    return frame(hwaddr, option(53, b"\x01"), xid)


def client_id_of(number):
    return option(61, b"\x01" + hwaddr_of(number)) if number % 2 == 0 else b""


def init_reboot(hwaddr, address, number, xid=1):
    return frame(hwaddr, option(53, b"\x03") + option(50, socket.inet_aton(address)) + client_id_of(number), xid)


def message_type(octets):
    """Of a frame with a reply of a server; 0 for anything else."""
    if len(octets) < 286 or octets[23] != 17 or octets[34:36] != b"\x00\x43":
        return 0
    return octets[284] if octets[282:284] == b"\x35\x01" else 0


def median(values):
    return statistics.median(values)


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def settle(path):
    """Nothing of the file waits for the disk; with COLD it is not in the page cache either."""
    os.sync()
    if os.environ.get("COLD"):
        with open(path) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def started(site, known):
    """One start: seconds to the answer, seconds of the phases the log tells, resident and peak KiB."""
    settle(site.path("leases.csv"))
    with Server(site) as server:
        served = server.wait_until_served(known)
        time.sleep(0.5)
        loaded = ["; ".join(server.log(r"TANDEM_LEASES_(?:LOADED|PLACED) (.*)"))]
        return served, loaded[0] if loaded else "", server.kib("VmRSS"), server.kib("VmHWM")


def measure_start(site):
    print(f"\n## Start and memory: {LEASES} leases in {LEASES + EXTRA} rows, {os.environ.get('ORDER', 'sorted')}, "
          f"{'not ' if os.environ.get('COLD') else ''}in the page cache\n")
    row("shards", "leases", "to the first answer", "resident", "peak", "octets for each lease")
    row(*["---"] * 6)
    notes = []
    for shards in SHARDS:
        site.configure(shards)
        empty = None
        for leases in (0, LEASES):
            write_leases(site.path("leases.csv"), leases, EXTRA if leases else 0)
            runs = [started(site, leases // 2 if leases else None) for _ in range(RUNS)]
            served, resident, peak = (median([run[which] for run in runs]) for which in (0, 2, 3))
            each = "" if empty is None else round((resident - empty) * 1024 / leases, 1)
            empty = empty or resident
            row(shards, leases, f"{served * 1000:.0f} ms", f"{resident / 1024:.1f} MiB", f"{peak / 1024:.1f} MiB", each)
            notes += [f"{shards} shards: {run[1]}" for run in runs]
    print("\n" + "\n".join(notes))


class Renewals:
    """Clients of the file that ask for their leases again, one every `1 / rate` seconds, each a REQUEST in INIT-REBOOT;
    how long the ACK took, by the time the REQUEST was due."""

    def __init__(self, site, rate, seed=3):
        self.socket, self.rate, self.drawn = site.socket, rate, random.Random(seed)
        self.socket.setblocking(False)
        os.sched_setaffinity(0, CPUS[-1:])
        self.due = {}
        self.delays = []
        self.lost = 0
        self.xid = 0

    def run(self, seconds, until=None):
        """For `seconds`, or until `until` says so."""
        frames = {}
        start, sent = time.monotonic(), 0
        while (now := time.monotonic()) < start + seconds and not (until and until()):
            due = start + sent / self.rate
            if now >= due:
                number = self.drawn.randrange(LEASES)
                self.xid += 1
                self.due[self.xid] = due
                self.socket.send(init_reboot(hwaddr_of(number), address_of(number), number, self.xid))
                sent += 1
            self.receive()
        end = time.monotonic() + 1
        while self.due and time.monotonic() < end:
            self.receive()
        self.lost += len(self.due)
        self.due.clear()

    def receive(self):
        try:
            while True:
                answer = self.socket.recv(2048)
                if message_type(answer) == 5:
                    xid = struct.unpack("!I", answer[46:50])[0]
                    if due := self.due.pop(xid, None):
                        self.delays.append((time.monotonic() - due) * 1000)
        except BlockingIOError:
            pass

    def row(self, what):
        """Number of ACKs, and delays in milliseconds."""
        delays = sorted(self.delays) or [0]
        at = lambda share: f"{delays[min(len(delays) - 1, int(len(delays) * share))]:.2f}"
        row(what, len(self.delays), self.lost, at(0.5), at(0.99), at(0.999), f"{delays[-1]:.2f}")
        self.delays, self.lost = [], 0


def every(seconds, question):
    """Asks `question` once in `seconds`: a file read between any two datagrams holds up the clients themselves."""
    due = 0

    def ask():
        nonlocal due
        if (now := time.monotonic()) < due:
            return False
        due = now + seconds
        return question()

    return ask


DELAYS = ("while", "ACKs", "lost", "p50 ms", "p99 ms", "p99.9 ms", "worst ms")


def heading(text, cells):
    print(f"\n## {text}\n")
    row(*cells)
    row(*["---"] * len(cells))


def measure_clean_up(site):
    """The lease file is cleaned up while clients renew."""
    heading(f"Clean-up of {LEASES + EXTRA} rows under {RATE} renewals a second", DELAYS)
    notes = []
    for shards in SHARDS:
        for what, interval in ((f"{shards} shards, no clean-up", 0), (f"{shards} shards, clean-up", 1)):
            renewals = Renewals(site, RATE)
            for _ in range(RUNS):
                site.configure(shards, database={"lfc-interval": interval})
                write_leases(site.path("leases.csv"))
                settle(site.path("leases.csv"))
                with Server(site, SERVER_CPUS) as server:
                    server.wait_until_served(LEASES // 2)
                    site.socket.setblocking(False)
                    done = every(0.01, lambda: interval and "LFC_EXECUTE" in open(site.path("log")).read())
                    begun = time.monotonic()
                    renewals.run(20 if interval else 4, done)
                    if interval:
                        notes.append(f"{shards} shards: cleaned up {time.monotonic() - begun:.1f} s after the start, "
                                     f"{os.path.getsize(site.path('leases.csv')) >> 20} MiB left, "
                                     f"resident {server.kib('VmRSS') >> 10} MiB, peak {server.kib('VmHWM') >> 10} MiB")
            renewals.row(what)
    print("\n" + "\n".join(notes))


def measure_commands(site):
    """Lists and searches over a million leases while clients renew."""
    heading(f"Commands over {LEASES} leases under {RATE} renewals a second", DELAYS)
    commands = [
        ("statistic-get-all", {}),
        ("lease4-get-page", {"from": "start", "limit": 1000}),
        ("lease4-get-by-hw-address", {"hw-address": hwaddr_of(LEASES // 2).hex(":")}),
        ("lease4-get-all", {}),
    ]
    took = []
    for shards in SHARDS:
        site.configure(shards)
        write_leases(site.path("leases.csv"), extra=0)
        with Server(site, SERVER_CPUS) as server:
            server.wait_until_served(LEASES // 2)
            renewals = Renewals(site, RATE)
            renewals.run(2)
            renewals.row(f"{shards} shards, no command")
            for command, arguments in commands:
                code = ("import json,socket,sys,time\nb=time.monotonic();s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1])\n"
                        "s.sendall(sys.argv[2].encode());n=0\nwhile p:=s.recv(1<<20): n+=len(p)\nprint(n,time.monotonic()-b)")
                text = json.dumps({"command": command} | ({"arguments": arguments} if arguments else {}))
                with subprocess.Popen([sys.executable, "-c", code, site.path("socket"), text], stdout=subprocess.PIPE) as asking:
                    renewals.run(30, lambda: asking.poll() is not None)
                    octets, seconds = asking.stdout.read().split()
                took.append(f"{shards} shards: {command}: {int(octets)} octets in {float(seconds) * 1000:.0f} ms")
                renewals.row(f"{shards} shards, {command}")
    print("\n" + "\n".join(took))


def measure_expiry(site):
    """All leases run out within a minute that is over, and are reclaimed while clients come for new ones."""
    heading(f"{LEASES} leases that ran out in the same minute, under {RATE} returning clients a second", DELAYS)
    for shards in SHARDS:
        reclaim = {"reclaim-timer-wait-time": 1, "max-reclaim-leases": 0, "max-reclaim-time": 0, "hold-reclaimed-time": 3600}
        site.configure(shards, **{"expired-leases-processing": reclaim})
        write_leases(site.path("leases.csv"), extra=0, expires_in=(-60, -1))
        settle(site.path("leases.csv"))
        with Server(site, SERVER_CPUS) as server:
            server.wait_until_served(LEASES // 2)
            renewals = Renewals(site, RATE)
            reclaimed = 0
            begun = time.monotonic()
            while reclaimed < LEASES * 0.98 and time.monotonic() < begun + 40:
                renewals.run(2)
                totals = server.ask("statistic-get", name="reclaimed-leases")["arguments"]["reclaimed-leases"]
                reclaimed = totals[0][0]
            renewals.row(f"{shards} shards, {reclaimed} reclaimed in {time.monotonic() - begun:.0f} s")


def measure_slash8(site):
    """A pool of all of 10.0.0.0/8."""
    heading("A pool of 16 million addresses, 10.0.0.0/8", ("shards", "-t", "to the first answer", "small pool", "config-reload", "resident", "small pool"))
    for shards in SHARDS:
        cells = []
        for pool in ("10.0.1.0-10.255.255.250", "10.0.1.0-10.0.1.250"):
            checks, answers, sets, resident = [], [], [], []
            for _ in range(RUNS):
                write_leases(site.path("leases.csv"), 0, 0)
                site.configure(shards, pool)
                begun = time.monotonic()
                run(os.path.join(BIN, "tandem-dhcp4"), "-t", site.path("kea-dhcp4.conf"))
                checks.append(time.monotonic() - begun)
                with Server(site) as server:
                    answers.append(server.wait_until_served())
                    time.sleep(0.3)
                    begun = time.monotonic()
                    answer = server.ask("config-reload")
                    sets.append(time.monotonic() - begun)
                    assert answer["result"] == 0, answer
                    resident.append(server.kib("VmRSS"))
            cells.append([median(values) for values in (checks, answers, sets, resident)])
        (check, answer, change, resident), (_, small_answer, _, small_resident) = cells
        row(shards, f"{check * 1000:.0f} ms", f"{answer * 1000:.0f} ms", f"{small_answer * 1000:.0f} ms", f"{change * 1000:.0f} ms",
            f"{resident / 1024:.1f} MiB", f"{small_resident / 1024:.1f} MiB")


def cpu_seconds(pid):
    """What all threads of a process have run, in seconds."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def exchange(site, server, numbers, window, renew):
    """The clients `numbers` renew, or come as new ones (DISCOVER, REQUEST), `window` of them at a time; seconds of wall clock
    and of the server's CPU for one exchange, and exchanges done."""
    numbers, open_exchanges, done = enumerate(numbers, 1), {}, 0
    site.socket.settimeout(1)

    def begin():
        xid, number = next(numbers, (0, 0))
        if xid == 0:
            return
        open_exchanges[xid] = number
        hwaddr = hwaddr_of(number)
        site.socket.send(init_reboot(hwaddr, address_of(number), number, xid) if renew else discover(hwaddr, xid))

    cpu, wall = cpu_seconds(server.process.pid), time.monotonic()
    for _ in range(window):
        begin()
    while open_exchanges:
        try:
            answer = site.socket.recv(2048)
        except TimeoutError:
            break
        kind, xid = message_type(answer), struct.unpack("!I", answer[46:50])[0]
        if xid not in open_exchanges:
            continue
        if kind == 2:
            options = option(53, b"\x03") + option(50, answer[58:62]) + option(54, socket.inet_aton("10.0.0.1"))
            site.socket.send(frame(hwaddr_of(open_exchanges[xid]), options, xid))
        elif kind == 5:
            del open_exchanges[xid]
            done += 1
            begin()
    wall = time.monotonic() - wall
    return wall / max(done, 1), (cpu_seconds(server.process.pid) - cpu) / max(done, 1), done


def measure_rate(site):
    """What an exchange costs among few leases and among many, in an empty pool and in a full one. Exchanges a second are the
    server's limit only where its CPU is used up: this program is one thread."""
    heading(f"Exchanges by the size of the table, {RUNS} runs taking turns, 32 clients at a time",
            ("shards", "while", "exchanges", "CPU for each", "of runs", "served a second"))
    full = f"10.1.0.0-{address_of(LEASES - 1)}"
    cases = [
        ("renewal among 1000 leases", 1000, True),
        (f"renewal among {LEASES} leases", LEASES, True),
        (f"new client, {LEASES} addresses, all free", 0, False),
        (f"new client, {LEASES} addresses, one in a thousand free", LEASES - LEASES // 1000, False),
    ]
    for shards in SHARDS:
        results = [[] for _ in cases]
        for _ in range(RUNS):
            for result, (_, leases, renew) in zip(results, cases):
                site.configure(shards, full)
                write_leases(site.path("leases.csv"), leases, 0)
                settle(site.path("leases.csv"))
                if renew:
                    numbers = [number * 7919 % leases for number in range(60_000)]
                else:
                    numbers = [LEASES + 10 + number for number in range(LEASES // 1250)]
                with Server(site, SERVER_CPUS) as server:
                    server.wait_until_served(leases // 2 if leases else None)
                    os.sched_setaffinity(0, CPUS[-1:])
                    time.sleep(0.5)
                    result.append(exchange(site, server, numbers, 32, renew))
        for result, (what, *_) in zip(results, cases):
            row(shards, what, min(run[2] for run in result), f"{median([run[1] for run in result]) * 1e6:.1f} us",
                " ".join(f"{run[1] * 1e6:.1f}" for run in result), f"{1 / median([run[0] for run in result]):.0f}")


MEASURES = {
    "start": measure_start,
    "clean-up": measure_clean_up,
    "commands": measure_commands,
    "expiry": measure_expiry,
    "slash8": measure_slash8,
    "rate": measure_rate,
}


def main():
    asked = sys.argv[1:] or list(MEASURES)
    if unknown := [name for name in asked if name not in MEASURES]:
        sys.exit(f"{__doc__}\nunknown: {', '.join(unknown)}")
    with Site() as site:
        for name in asked:
            os.sched_setaffinity(0, CPUS)
            MEASURES[name](site)


if __name__ == "__main__":
    main()
