#!/usr/bin/env python3
"""What the disk alone takes: rows appended and synced at a fixed rate by plain processes, without any server.

    tests/sync.py FOLDER [WRITERS [RATE [SECONDS]]]

WRITERS (2) processes, each with a file of its own in FOLDER, stand for the servers of a pair: each appends a row of 110 octets
RATE (1000) times a second for SECONDS (5) and calls `fdatasync`; rows that come meanwhile share the next one. A wait runs from
the moment a row was planned to the end of its sync; those of all writers for one row end with the last. Prints percentiles
in milliseconds. As the servers' journals, the processes share CPU 0 and run first where they may. The floor of what an ACK
waits for: see PERF.md. Needs nothing; runs first as root.

Environment: THREADS (1) of each writer, which take turns to write and sync side by side.
"""

import os
import sys
import threading
import time

ROW = b"\n" + b"x" * 109
THREADS = int(os.environ.get("THREADS", 1))


def write(path, rate, count, begin):
    """The wait of each row, in seconds, in the order of the plan."""
    waits, turn, told, state = [0.0] * count, threading.Lock(), threading.Condition(), {"row": 0, "batch": 0, "told": 0}

    def work():
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        while True:
            with turn:
                first = state["row"]
                if first == count:
                    return
                time.sleep(max(0.0, begin + first / rate - time.monotonic()))
                last = min(count, max(first + 1, int((time.monotonic() - begin) * rate) + 1))
                state["row"], number = last, state["batch"]
                state["batch"] += 1
                os.write(file, ROW * (last - first))
            os.fdatasync(file)
            with told:
                # In the order in which they were written.
                told.wait_for(lambda: state["told"] == number)
                now = time.monotonic()
                waits[first:last] = [now - begin - row / rate for row in range(first, last)]
                state["told"] += 1
                told.notify_all()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits


def main():
    folder, (writers, rate, seconds) = sys.argv[1], [*map(int, sys.argv[2:]), *[2, 1000, 5][len(sys.argv) - 2:]]
    os.sched_setaffinity(0, {0})
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        print("not allowed to run first")
    begin, ends = time.monotonic() + 0.2, []
    for index in range(writers):
        read, written = os.pipe()
        if os.fork() == 0:
            path = os.path.join(folder, f"sync{os.getpid()}")
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            waits = write(path, rate, rate * seconds, begin)
            os.remove(path)
            with os.fdopen(written, "w") as pipe:
                pipe.write(" ".join(f"{wait:.7f}" for wait in waits))
            os._exit(0)
        os.close(written)
        ends.append(os.fdopen(read))
    last = sorted(map(max, *[[float(wait) for wait in end.read().split()] for end in ends], [0.0] * rate * seconds))
    for _ in range(writers):
        os.wait()
    at = lambda share: last[min(len(last) - 1, int(len(last) * share))] * 1000
    print(f"{writers} writers, {THREADS} syncs under way in each, {rate} rows a second: p50 {at(0.5):.2f}, p90 {at(0.9):.2f}, p99 {at(0.99):.2f},"
          f" p99.9 {at(0.999):.2f} ms")


if __name__ == "__main__":
    main()
