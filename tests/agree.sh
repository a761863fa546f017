#!/usr/bin/env bash
# Does tandem-loadgen agree with perfdhcp? Both load the same server at the same rate, in turn (A, B, A, B, ...), as one
# relay, and the medians are compared: exchanges completed a second, drops, and minimum and mean of DISCOVER to OFFER
# and of REQUEST to ACK, which perfdhcp counts from sending (`offer_raw` and `ack_raw` here). Needs root, perfdhcp,
# python3 and `cargo build --release --bins`; believe it on an idle machine only.
#
#   tests/agree.sh kea|tandem RATE [SECONDS [ROUNDS]]
#
# SECONDS (5) for each run, ROUNDS (5) of each program. BIN names another folder of programs. Every run has clients of
# its own. Fails when the rates completed differ by more than 5 %.
set -euo pipefail
cd "$(dirname "$0")/.."

server=${1:-} rate=${2:-} seconds=${3:-5} rounds=${4:-5}
bin=${BIN:-$PWD/target/release}
export PATH="$PATH:/usr/sbin:/sbin"
case $server in kea) program=kea-dhcp4 ;; tandem) program=$bin/tandem-dhcp4 ;; *) rate="" ;; esac
[ -n "$rate" ] || { echo "usage: tests/agree.sh kea|tandem RATE [SECONDS [ROUNDS]]" >&2; exit 2; }
for needed in perfdhcp python3 "$program" "$bin/tandem-loadgen"; do
  command -v "$needed" >/dev/null || { echo "tests/agree.sh: $needed is missing" >&2; exit 2; }
done

folder=$(mktemp -d)
one=agree$$-server two=agree$$-clients pid=""
clean_up() {
  if [ -n "$pid" ]; then kill -TERM "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
  for namespace in $one $two; do ip netns del "$namespace" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap clean_up EXIT

for namespace in $one $two; do ip netns add $namespace; ip -n $namespace link set lo up; done
ip link add srv0 netns $one type veth peer name cli0 netns $two
ip -n $one addr add 10.0.0.1/8 dev srv0; ip -n $one link set srv0 up
ip -n $two addr add 10.0.0.2/8 dev cli0; ip -n $two link set cli0 up

cat > "$folder/conf" <<CONF
{ "Dhcp4": {
  "interfaces-config": { "interfaces": [ "srv0" ], "dhcp-socket-type": "udp" },
  "lease-database": { "type": "memfile", "name": "$folder/leases.csv", "lfc-interval": 0 },
  "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 1, "packet-queue-size": 256 },
  "valid-lifetime": 3600,
  "loggers": [ { "name": "kea-dhcp4", "severity": "WARN", "output_options": [ { "output": "stderr" } ] } ],
  "subnet4": [ { "id": 1, "subnet": "10.0.0.0/8", "interface": "srv0",
                 "pools": [ { "pool": "10.1.0.0 - 10.250.255.255" } ] } ] } }
CONF
export KEA_PIDFILE_DIR=$folder KEA_LOCKFILE_DIR=$folder KEA_LOG_FILE_DIR=$folder KEA_DHCP_DATA_DIR=$folder
ip netns exec $one taskset -c 0 "$program" -c "$folder/conf" > "$folder/output" 2>&1 &
pid=$!
for _ in $(seq 100); do
  if ip netns exec $one grep -q ':0043 ' /proc/net/udp; then break; fi
  kill -0 $pid 2>/dev/null || { cat "$folder/output" >&2; exit 1; }
  sleep 0.1
done

clients=$((rate * (seconds + 2)))
last_cpu=$(($(nproc) - 1))
base() { printf 'mac=02:%02x:%02x:00:00:00' "$1" "$2"; }
for round in $(seq "$rounds"); do
  # Codes 0 and 3 are both results: 3 says that something was lost.
  ip netns exec $two taskset -c $last_cpu perfdhcp -4 -r "$rate" -R $clients -p "$seconds" -b "$(base 1 "$round")" \
    -g single -l 10.0.0.2 10.0.0.1 > "$folder/perfdhcp-$round" 2>&1 || [ $? = 3 ]
  ip netns exec $two "$bin/tandem-loadgen" -4 -r "$rate" -R $clients -p "$seconds" -b "$(base 2 "$round")" \
    --warm-up 0 -l 10.0.0.2 10.0.0.1 --summary "$folder/loadgen-$round" > /dev/null || [ $? = 3 ]
done

python3 - "$folder" "$rounds" "$rate" "$server" <<'PYTHON'
import json, re, statistics, sys
folder, rounds, rate, server = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
names = ["completed /s", "drops %", "OFFER min ms", "OFFER mean ms", "ACK min ms", "ACK mean ms"]

def perfdhcp(round):
    text = open(f"{folder}/perfdhcp-{round}").read()
    parts = text.split("***Statistics for: ")
    def of(part, name):
        return float(re.search(rf"{name}: ([-\d.e+]+)", parts[part]).group(1))
    completed = float(re.search(r"Rate: ([\d.]+) 4-way", parts[0]).group(1))
    sent = of(1, "sent packets")
    lost = of(1, "drops") + of(2, "drops")
    delays = [of(part, f"{what} delay") for part in (1, 2) for what in ("min", "avg")]
    return [completed, 100 * lost / sent] + delays

def loadgen(round):
    found = json.load(open(f"{folder}/loadgen-{round}"))
    delays = [found[step][what] / 1e3 for step in ("offer_raw", "ack_raw") for what in ("min_us", "mean_us")]
    return [found["completed_rate"], 100 * found["drop_share"]] + delays

medians = []
for program in (perfdhcp, loadgen):
    runs = [program(round) for round in range(1, rounds + 1)]
    medians.append([statistics.median(column) for column in zip(*runs)])
print(f"{server} at {rate:.0f} exchanges/s, medians of {rounds} runs each, in turn")
print(f"{'':16}{'perfdhcp':>12}{'loadgen':>12}{'ratio':>9}")
for name, one, other in zip(names, *medians):
    print(f"{name:16}{one:12.3f}{other:12.3f}{(f'{other / one:9.3f}' if one else '')}")
apart = abs(medians[1][0] / medians[0][0] - 1)
sys.exit(apart > 0.05)
PYTHON
