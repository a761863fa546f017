#!/usr/bin/env bash
# Load with perfdhcp, and a proof: every address that was acknowledged on the wire is in the lease file, in pair mode in
# both lease files. Needs root, perfdhcp, tcpdump, python3 and `cargo build --release --bins`.
#
#   tests/load.sh single|pair [RATE [SECONDS [THREADS]]]
#
# RATE is four-way exchanges a second (3000), for SECONDS (60), on THREADS shards (4). BIN names another folder of programs,
# CACHE another cache-threshold than 0, LIMIT another parked-packet-limit than the default, PF more options of perfdhcp,
# KEEP=1 keeps the folder. Fails when more than 0.1 % of the exchanges are lost or an acknowledged address is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-single} rate=${2:-3000} seconds=${3:-60} threads=${4:-4}
bin=${BIN:-$PWD/target/release}
case $mode in single | pair) ;; *) echo "usage: tests/load.sh single|pair [RATE [SECONDS [THREADS]]]" >&2; exit 2 ;; esac
for program in perfdhcp tcpdump python3 "$bin/tandem-dhcp4" "$bin/tandem"; do
  command -v "$program" >/dev/null || { echo "tests/load.sh: $program is missing" >&2; exit 2; }
done

folder=$(mktemp -d)
prefix=load$$
pids=() namespaces=()
clean_up() {
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  for namespace in "${namespaces[@]}"; do ip netns del "$namespace" 2>/dev/null || true; done
  if [ -n "${KEEP:-}" ]; then echo "kept: $folder"; else rm -rf "$folder"; fi
}
trap clean_up EXIT

add_namespace() { ip netns add "$1"; namespaces+=("$1"); ip -n "$1" link set lo up; }

# A bridge in a namespace of its own; every host hangs on it.
lan=$prefix-lan
add_namespace "$lan"
ip -n "$lan" link add br0 type bridge
ip -n "$lan" link set br0 up
add_host() { # NAME INTERFACE ADDRESS
  add_namespace "$prefix-$1"
  ip link add "$2" netns "$prefix-$1" type veth peer name "to-$1" netns "$lan"
  ip -n "$prefix-$1" addr add "$3" dev "$2"
  ip -n "$prefix-$1" link set "$2" up
  ip -n "$lan" link set "to-$1" master br0 up
}

write_config() { # NUMBER
  local high_availability="" own=$folder/$1
  if [ "$mode" = pair ]; then
    high_availability='"hooks-libraries":[{"library":"libdhcp_lease_cmds.so"},{"library":"libdhcp_ha.so","parameters":{
      "high-availability":[{"this-server-name":"server'$1'","mode":"hot-standby","heartbeat-delay":1000,
      "max-response-delay":20000,"max-ack-delay":10000,"max-unacked-clients":5,
      "multi-threading":{"enable-multi-threading":true,"http-dedicated-listener":true,"http-listener-threads":0,
        "http-client-threads":0},
      "trust-anchor":"'$folder'/pki/CA.pem","peers":['
    local number
    for number in 1 2; do
      high_availability+='{"name":"server'$number'","url":"http://10.0.0.'$number':8005/","role":"'
      high_availability+=$([ "$number" = 1 ] && echo primary || echo standby)
      high_availability+='","cert-file":"'$folder'/pki/server'$number'_cert.pem","key-file":"'
      high_availability+=$folder'/pki/server'$number'_key.pem"}'$([ "$number" = 1 ] && echo , || true)
    done
    high_availability+=']}]}}],'
  fi
  mkdir -p "$own"
  cat >"$own/kea-dhcp4.conf" <<CONFIG
{"Dhcp4":{"interfaces-config":{"interfaces":["srv0"]},
"lease-database":{"type":"memfile","name":"$own/leases.csv","lfc-interval":0},
"control-socket":{"socket-type":"unix","socket-name":"$own/socket"},
"multi-threading":{"enable-multi-threading":true,"thread-pool-size":$threads,"packet-queue-size":${QUEUE:-64}},
${LIMIT:+"\"parked-packet-limit\":$LIMIT,"}
"valid-lifetime":3600,"cache-threshold":${CACHE:-0.0},$high_availability
"loggers":[{"name":"kea-dhcp4","severity":"${LOG:-INFO}","output-options":[{"output":"$own/log"}]}],
"subnet4":[{"id":1,"subnet":"10.0.0.0/8","interface":"srv0","pools":[{"pool":"10.1.0.0-10.60.255.255"}]}]}}
CONFIG
}

start_server() { # NUMBER
  KEA_PIDFILE_DIR=$folder/$1 KEA_LOCKFILE_DIR=$folder/$1 ip netns exec "$prefix-server$1" \
    "$bin/tandem-dhcp4" -c "$folder/$1/kea-dhcp4.conf" >"$folder/$1/output" 2>&1 &
  pids+=($!)
}

# One command on a control socket; prints what the python expression makes of the answer `a`.
ask() { # NUMBER COMMAND EXPRESSION
  python3 - "$folder/$1/socket" "$2" "$3" <<'PYTHON'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(json.dumps({"command": sys.argv[2]}).encode())
answer = b""
while piece := s.recv(65536):
    answer += piece
a = json.loads(answer)["arguments"]
print(eval(sys.argv[3]))
PYTHON
}

wait_until() { # SECONDS WHAT COMMAND...
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $until ] || { echo "tests/load.sh: not within time: $what" >&2; tail -n 20 "$folder"/*/log >&2; exit 1; }
    sleep 0.2
  done
}

state_is() { # NUMBER STATE
  [ "$(ask "$1" status-get "a['high-availability'][0]['ha-servers']['local']['state']" 2>/dev/null)" = "$2" ]
}

servers="1"
add_host server1 srv0 10.0.0.1/8
if [ "$mode" = pair ]; then
  servers="1 2"
  add_host server2 srv0 10.0.0.2/8
  "$bin/tandem" pki --dir "$folder/pki" --host server1=10.0.0.1 --host server2=10.0.0.2 >/dev/null
fi
add_host client cli0 10.0.0.9/8
for number in $servers; do write_config "$number"; start_server "$number"; done
for number in $servers; do wait_until 10 "server $number answers" ask "$number" status-get "''" >/dev/null 2>&1; done
if [ "$mode" = pair ]; then for number in 1 2; do wait_until 30 "normal state" state_is "$number" hot-standby; done; fi

echo "== load: $(uptime)"
ip netns exec "$prefix-client" tcpdump -i cli0 -n -s 300 -B 16384 -w "$folder/capture" -U \
  'udp src port 67' 2>"$folder/tcpdump" &
capture=$!
pids+=("$capture")
wait_until 5 "tcpdump listens" grep -q listening "$folder/tcpdump"
perf_code=0
# shellcheck disable=SC2086
ip netns exec "$prefix-client" perfdhcp -4 -r "$rate" -R 10000000 -p "$seconds" -W 2000000 ${PF:-} -l cli0 10.0.0.1 \
  >"$folder/perfdhcp" 2>&1 || perf_code=$?
echo "== after: $(uptime)"
sleep 1
kill -INT "$capture"
wait "$capture" || true
grep -E '^(Rate|\*\*\*|sent|received|drops|avg|max)' "$folder/perfdhcp" || cat "$folder/perfdhcp"
grep -E 'dropped by kernel' "$folder/tcpdump" || true
for number in $servers; do
  echo "== server $number"
  ask "$number" statistic-get-all "'\n'.join(f'{k} {v[0][0]}' for k, v in sorted(a.items()) if '[' not in k and v[0][0])"
  ps -o pid,pcpu,time,rss,nlwp -p "${pids[$((number - 1))]}"
  grep -E ' (WARN|ERROR|FATAL) ' "$folder/$number/log" | tail -n 5 || true
done

files=()
for number in $servers; do files+=("$folder/$number/leases.csv"); done
python3 - "$folder/perfdhcp" "$folder/capture" "${files[@]}" <<'PYTHON'
import re, socket, struct, sys
acknowledged, acks = set(), 0
with open(sys.argv[2], "rb") as capture:
    capture.read(24)
    while len(head := capture.read(16)) == 16:
        frame = capture.read(struct.unpack("<4I", head)[2])
        dhcp = frame[14 + 4 * (frame[14] & 15) + 8:]
        at = 240
        while at + 2 < len(dhcp) and dhcp[at] not in (53, 255):
            at += 1 if dhcp[at] == 0 else 2 + dhcp[at + 1]
        if at + 2 < len(dhcp) and dhcp[at] == 53 and dhcp[at + 2] == 5:
            acks += 1
            acknowledged.add(socket.inet_ntoa(dhcp[16:20]))
failed = False
print(f"== acknowledged on the wire: {acks} replies, {len(acknowledged)} addresses")
for name in sys.argv[3:]:
    with open(name) as file:
        found = {line.split(",", 1)[0] for line in file}
    missing = acknowledged - found
    failed |= bool(missing)
    print(f"{name}: {len(acknowledged) - len(missing)} found, {len(missing)} missing {sorted(missing)[:5]}")
text = open(sys.argv[1]).read()
sent = [int(n) for n in re.findall(r"^sent packets: (\d+)", text, re.M)]
drops = [int(n) for n in re.findall(r"^drops: (\d+)", text, re.M)]
ratio = sum(drops) / max(1, sum(sent))
print(f"== lost: {sum(drops)} of {sum(sent)} ({ratio:.4%})")
sys.exit(1 if failed or ratio > 0.001 or not acknowledged else 0)
PYTHON
