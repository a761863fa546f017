#!/usr/bin/env bash
# Behaviour beyond capacity: the server on one CPU, the generator on another, one relay that sends everything from one
# address and port, every client new, ACKs durable. Finds the capacity, then offers it once and twice, and then once more
# while a control group leaves the server a fifth and a tenth of its CPU time. Prints what was served, relative to the
# capacity, and how evenly the shards shared it. Needs root, two CPUs, python3 and `cargo build --release --bins`.
#
#   tests/overload.sh [THREADS [SECONDS]]
#
# THREADS shards (4), SECONDS of each load (8). BIN names another folder of programs, CAPACITY the capacity if it is known
# (exchanges a second), ONLY a single rate to offer three times, PERIOD the control group's period in microseconds (100000), GEN more options of the generator,
# CUT_CAPACITY=1 also searches the capacity under each cut, KEEP=1 keeps the folder.
set -euo pipefail
cd "$(dirname "$0")/.."

threads=${1:-4} seconds=${2:-8}
bin=${BIN:-$PWD/target/release}
period=${PERIOD:-100000}
read -r -a generator_options <<<"${GEN:-}"
for program in ip taskset python3 "$bin/tandem-dhcp4" "$bin/tandem-loadgen"; do
  command -v "$program" >/dev/null || { echo "tests/overload.sh: $program is missing" >&2; exit 2; }
done
[ "$(nproc)" -ge 2 ] || { echo "tests/overload.sh: two CPUs are needed" >&2; exit 2; }

folder=$(mktemp -d)
prefix=over$$
server_pid=""
group=""
clean_up() {
  [ -z "$server_pid" ] || { kill -TERM "$server_pid" 2>/dev/null && wait "$server_pid"; } || true
  ip netns del "$prefix-server" 2>/dev/null || true
  ip netns del "$prefix-client" 2>/dev/null || true
  [ -z "$group" ] || rmdir "$group" 2>/dev/null || true
  if [ -n "${KEEP:-}" ]; then echo "kept: $folder"; else rm -rf "$folder"; fi
}
trap clean_up EXIT

# A control group of its own, in whichever of the two hierarchies has the CPU controller.
if [ -d /sys/fs/cgroup/cpu ]; then
  group=/sys/fs/cgroup/cpu/$prefix
  mkdir "$group"
  cut() { echo "$period" >"$group/cpu.cfs_period_us"; echo $((period * $1 / 100)) >"$group/cpu.cfs_quota_us"; }
else
  echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
  group=/sys/fs/cgroup/$prefix
  mkdir "$group"
  cut() { echo "$((period * $1 / 100)) $period" >"$group/cpu.max"; }
fi

ip netns add "$prefix-server"
ip netns add "$prefix-client"
ip link add srv0 netns "$prefix-server" type veth peer name cli0 netns "$prefix-client"
ip -n "$prefix-server" address add 10.0.0.1/8 dev srv0
ip -n "$prefix-client" address add 10.0.0.9/8 dev cli0
for end in server:srv0 client:cli0; do
  ip -n "$prefix-${end%:*}" link set lo up
  ip -n "$prefix-${end%:*}" link set "${end#*:}" up
done

cat >"$folder/kea-dhcp4.conf" <<CONFIG
{"Dhcp4":{"interfaces-config":{"interfaces":["srv0"]},
"lease-database":{"type":"memfile","name":"$folder/leases.csv","lfc-interval":0},
"control-socket":{"socket-type":"unix","socket-name":"$folder/socket"},
"multi-threading":{"enable-multi-threading":true,"thread-pool-size":$threads,"packet-queue-size":${QUEUE:-64}},
"valid-lifetime":3600,"cache-threshold":0.0,
"loggers":[{"name":"kea-dhcp4","severity":"INFO","output-options":[{"output":"$folder/log"}]},
{"name":"kea-dhcp4.leases","severity":"WARN","output-options":[{"output":"$folder/log"}]}],
"subnet4":[{"id":1,"subnet":"10.0.0.0/8","interface":"srv0","pools":[{"pool":"10.1.0.0-10.99.255.255"}]}]}}
CONFIG
KEA_PIDFILE_DIR=$folder KEA_LOCKFILE_DIR=$folder ip netns exec "$prefix-server" taskset -c 0 \
  "$bin/tandem-dhcp4" -c "$folder/kea-dhcp4.conf" >"$folder/output" 2>&1 &
server_pid=$!
echo "$server_pid" >"$group/cgroup.procs"

# All statistics, to a file.
statistics() { # FILE
  python3 - "$folder/socket" "$server_pid" >"$1" <<'PYTHON'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(json.dumps({"command": "statistic-get-all"}).encode())
answer = b""
while piece := s.recv(65536):
    answer += piece
values = {name: samples[0][0] for name, samples in json.loads(answer)["arguments"].items()}
ticks = open(f"/proc/{sys.argv[2]}/stat").read().rsplit(")")[1].split()[11:13]
values["cpu-ticks"] = sum(map(int, ticks))
print(json.dumps(values))
PYTHON
}
until [ -S "$folder/socket" ] && statistics "$folder/before" 2>/dev/null; do
  kill -0 "$server_pid" 2>/dev/null || { cat "$folder/output" >&2; exit 1; }
  sleep 0.1
done

# Every run has clients of its own, so that every exchange writes a new lease.
run_number=0
generate() { # ARGUMENTS...
  run_number=$((run_number + 1))
  ip netns exec "$prefix-client" "$bin/tandem-loadgen" "$@" --cpus 1 -l cli0 -R 4000000 \
    -b "mac=02:$(printf %02x $run_number):0c:00:00:00" "${generator_options[@]}" 10.0.0.1
}
capacity() { # FIRST-RATE
  generate capacity --isc -r "$1" -p 2 --warm-up 0.5 --precision 4 --summary "$folder/capacity" >"$folder/text" 2>&1 ||
    { cat "$folder/text" >&2; exit 1; }

  python3 -c 'import json, sys; print(int(json.load(open(sys.argv[1]))["rate"]))' "$folder/capacity"
}

# One load; prints served over what could be served.
load() { # NAME RATE EXPECTED
  statistics "$folder/before"
  generate -r "$2" -p "$seconds" --warm-up 2 --summary "$folder/summary" >"$folder/text" 2>&1 || true
  statistics "$folder/after"
  python3 - "$folder" "$1" "$2" "$3" <<'PYTHON'
import json, sys
folder, name, offered, expected = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
read = lambda file: json.load(open(f"{folder}/{file}"))
run, before, after = read("summary"), read("before"), read("after")
grew = lambda key: after.get(key, 0) - before.get(key, 0)
shards = [grew(f"tandem-shard[{n}].pkt4-sent") for n in range(64) if f"tandem-shard[{n}].pkt4-sent" in after]
mean = sum(shards) / len(shards)
uneven = max(abs(sent - mean) for sent in shards) / max(mean, 1)
served = run["completed_rate"]
print(f"{name:18} offered {run['started_rate']:7.0f}/s  served {served:7.0f}/s = {served / expected:6.1%} of {expected:.0f}/s"
      f"  offer p50 {run['offer_raw']['p50_us'] / 1e3:.1f} ms p99 {run['offer_raw']['p99_us'] / 1e3:.1f} ms"
      f"  ack p50 {run['ack_raw']['p50_us'] / 1e3:.1f} ms p99 {run['ack_raw']['p99_us'] / 1e3:.1f} ms"
      f"  CPU {grew('cpu-ticks') * 1e4 / max(grew('pkt4-ack-sent'), 1):.2f} us per exchange"
      f"  shards within {uneven:.1%}" + ("  GENERATOR LIMITED" if run["generator_limited"] else ""))
print("    " + "  ".join(f"{key} {grew(key)}" for key in sorted(after) if grew(key) and
      ("drop" in key or "full" in key or "overload" in key or "kernel" in key) and "[" not in key))
print("    replies by shard: " + " ".join(map(str, shards)))
PYTHON
}

if [ -n "${ONLY:-}" ]; then
  for round in 1 2 3; do load "round $round" "$ONLY" "$ONLY"; done
  exit
fi
cut 100
full=${CAPACITY:-$(capacity ${FIRST:-4000})}
echo "capacity: $full exchanges a second (2.5 % lost within 1 s), $threads shards on one CPU"
load "offered once" "$full" "$full"
load "offered twice" $((2 * full)) "$full"
for share in 20 10; do
  cut "$share"
  load "CPU cut to $share %" "$full" $((full * share / 100))
  if [ -n "${CUT_CAPACITY:-}" ]; then
    sleep 2
    echo "    capacity under this cut, by search: $(capacity $((full * share / 400)))/s"
  fi
done
cut 100
sleep 1
load "half, after it all" $((full / 2)) $((full / 2))
grep -o 'TANDEM_OVERLOAD.*' "$folder/log" || true
