#!/bin/bash
# Tries the service under a real systemd: a minimal Debian is booted with systemd as PID 1 in namespaces of its own, without
# touching the host's services. Needs root, debootstrap (for the first run) and the built programs.
#
#   deploy/test/systemd.sh [directory with openclaw, openclaw-agent, openclaw-channel] [work directory]
#
# Prints one line per check and exits with 1 when one fails. The Debian stays in the work directory for the next run.
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd)
unit=openclaw-gateway.service
failed=0
init=
outer=

if [ "${1:-}" != --enter ]; then
  [ "$(id -u)" = 0 ] || { echo "run as root"; exit 2; }
  bin=$(cd "${1:-$repo/target/debug}" && pwd)
  work=${2:-/var/tmp/openclaw-systemd}
  root=$work/root
  for program in openclaw openclaw-agent openclaw-channel; do
    [ -x "$bin/$program" ] || { echo "$bin/$program is missing: cargo build first"; exit 2; }
  done
fi

# --- the machine ---------------------------------------------------------------------------------------------------------

make_root() {
  [ -e "$root/.complete" ] && return
  command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap"; exit 2; }
  mkdir -p "$work"
  echo "debootstrap into $root ..."
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,procps,iproute2,curl \
    bookworm "$root" http://deb.debian.org/debian >"$work/debootstrap.log" 2>&1
  touch "$root/.complete"
}

# Runs inside of the new namespaces, as their first process, and becomes systemd.
enter() {
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  local device
  for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  mkdir -p "$root/dev/pts" "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  mount -t tmpfs tmpfs "$root/dev/shm"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  exec chroot "$root" /lib/systemd/systemd --log-target=journal
}

boot() {
  local tree
  tree=$(findmnt -n -t cgroup2 -o TARGET | head -1)
  mkdir -p "$tree/openclaw-test"
  (
    echo "$BASHPID" >"$tree/openclaw-test/cgroup.procs"
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin root="$root" \
      unshare --pid --mount --uts --ipc --cgroup --net --fork --kill-child=KILL "$0" --enter
  ) >"$work/boot.log" 2>&1 </dev/null &
  outer=$!
  until init=$(pgrep -P "$outer" 2>/dev/null) && grep -q systemd "/proc/$init/comm"; do sleep 0.1; done
  until inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.2; done
  inside ip link set lo up
}

shut_down() {
  if [ -n "$init" ] && [ -d "/proc/$init" ]; then kill -KILL "$init" 2>/dev/null || true; fi
  wait 2>/dev/null || true
}
inside() { nsenter -t "$init" -m -u -i -n -p -C -r -w env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"; }

# --- the checks ----------------------------------------------------------------------------------------------------------

check() { # text, then a command
  local text=$1
  shift
  if "$@" >"$work/last.log" 2>&1; then
    echo "ok    $text"
  else
    echo "FAIL  $text"
    sed 's/^/      /' "$work/last.log" | tail -15
    failed=1
  fi
}

now_ms() { echo $(($(date +%s%N) / 1000000)); }
show() { inside systemctl show -p "$1" --value "$unit"; }
status_code() { inside curl -s -o /dev/null -w '%{http_code}' -m 10 http://127.0.0.1:18789/readyz; }

# Waits until /readyz says 200; no connection may be refused on the way (curl then prints 000).
ready_without_refusal() {
  local end=$(($(now_ms) + 60000)) code
  while [ "$(now_ms)" -lt "$end" ]; do
    code=$(status_code) || true
    [ "$code" = 000 ] && { echo "a connection was refused"; return 1; }
    [ "$code" = 200 ] && return 0
  done
  echo "not ready in 60 s"
  return 1
}

ready() {
  local end=$(($(now_ms) + 60000))
  until [ "$(status_code)" = 200 ]; do
    [ "$(now_ms)" -lt "$end" ] || return 1
    sleep 0.1
  done
}

install() {
  cp "$bin"/openclaw "$bin"/openclaw-agent "$bin"/openclaw-channel "$root/usr/bin/"
  inside id openclaw >/dev/null 2>&1 ||
    inside useradd --system --home-dir /var/lib/openclaw --shell /usr/sbin/nologin openclaw
  rm -rf "$root/var/lib/openclaw" "$root/etc/systemd/system/$unit"* "$root/etc/systemd/system/multi-user.target.wants/$unit"
  inside systemctl daemon-reload
  inside install -d -m 700 -o openclaw -g openclaw /var/lib/openclaw
  inside setpriv --reuid openclaw --regid openclaw --clear-groups \
    env HOME=/var/lib/openclaw OPENCLAW_STATE_DIR=/var/lib/openclaw openclaw up --no-run --model demo/demo
  inside openclaw service install --system
}

same_unit() {
  diff "$repo/deploy/systemd/system/$unit" "$root/etc/systemd/system/$unit"
}

# The kernel's word for it, and the gateway's. Limits are in force where the host gives controllers.
control_groups() {
  local tree
  tree=/sys/fs/cgroup$(show ControlGroup)
  inside grep -qx "$(show MainPID)" "$tree/supervisor/cgroup.procs" || { echo "the gateway has not moved aside"; return 1; }
  inside sh -c "cat $tree/workers-*/agent_main.*/cgroup.procs" | grep -q . || { echo "no group of agent:main"; return 1; }
  inside env OPENCLAW_STATE_DIR=/var/lib/openclaw openclaw status --deep | grep 'Control groups: one for each worker'
}

verify() {
  inside systemd-analyze verify "/etc/systemd/system/$unit" 2>&1 | tee /dev/stderr | grep -q . && return 1
  return 0
}

exposure() {
  local level
  level=$(inside systemd-analyze security "$unit" --no-pager | grep -o 'level for [^:]*: [0-9.]*' | grep -o '[0-9.]*$')
  echo "exposure $level"
  awk "BEGIN{exit !($level <= 4.5)}"
}

crash() {
  local before begin took
  before=$(show MainPID)
  begin=$(now_ms)
  inside kill -KILL "$before"
  ready_without_refusal || return 1
  took=$(($(now_ms) - begin))
  echo "$took" >>"$work/crash_ms"
  [ "$(show MainPID)" != "$before" ] || { echo "the same process"; return 1; }
  [ "$took" -le 1500 ] || { echo "took $took ms"; return 1; }
}

watchdog() {
  local before begin
  mkdir -p "$root/etc/systemd/system/$unit.d"
  printf '[Service]\nWatchdogSec=3\n' >"$root/etc/systemd/system/$unit.d/watchdog.conf"
  inside systemctl daemon-reload
  inside systemctl restart "$unit"
  ready || return 1
  before=$(show MainPID)
  begin=$(now_ms)
  inside kill -STOP "$before"
  until [ "$(show MainPID)" != "$before" ] && [ "$(show ActiveState)" = active ]; do
    [ $(($(now_ms) - begin)) -lt 30000 ] || { echo "not replaced in 30 s"; return 1; }
    sleep 0.1
  done
  echo "$(($(now_ms) - begin)) ms" >"$work/watchdog_ms"
  rm -r "$root/etc/systemd/system/$unit.d"
  inside systemctl daemon-reload
  inside journalctl -u "$unit" --no-pager | grep -i 'watchdog timeout'
}

reload() {
  local before
  before=$(show MainPID)
  inside systemctl reload "$unit" && ready_without_refusal && [ "$(show MainPID)" = "$before" ]
}

wrong_config() {
  local file="$root/var/lib/openclaw/openclaw.json"
  cp -p "$file" "$work/kept.json"
  inside systemctl stop "$unit"
  rm -rf "$root/var/lib/openclaw/config"
  echo '{gateway: {mode: "remote"}}' >"$file"
  inside systemctl start "$unit" && return 1
  sleep 2
  local code restarts
  code=$(show ExecMainStatus) restarts=$(show NRestarts)
  cp -p "$work/kept.json" "$file"
  inside systemctl reset-failed "$unit"
  inside systemctl start "$unit"
  echo "exit status $code, restarts $restarts"
  [ "$code" = 78 ] && [ "$restarts" = 0 ]
}

stop_is_refused_at_once() {
  inside systemctl stop "$unit"
  [ "$(status_code)" = 000 ] || return 1
  [ "$(show Result)" = success ] || return 1
  inside systemctl start "$unit"
}

own_stop() {
  inside env OPENCLAW_STATE_DIR=/var/lib/openclaw openclaw stop || return 1
  [ "$(show ActiveState)" = inactive ] || return 1
  inside systemctl start "$unit"
}

reboot() {
  inside systemctl reboot || true
  wait "$outer" 2>/dev/null || true
  boot
  ready
}

user_service() {
  inside id ada >/dev/null 2>&1 || inside useradd --create-home --shell /bin/bash ada || return 1
  inside systemctl stop "$unit"
  inside loginctl enable-linger ada || return 1
  local uid as
  uid=$(inside id -u ada)
  until inside test -S "/run/user/$uid/bus"; do sleep 0.1; done
  as=(inside setpriv --reuid ada --regid ada --clear-groups env HOME=/home/ada "XDG_RUNTIME_DIR=/run/user/$uid")
  "${as[@]}" openclaw up --no-run --model demo/demo &&
    "${as[@]}" openclaw service install --force &&
    "${as[@]}" openclaw service status >"$work/status" || return 1
  grep 'Runtime: active' "$work/status" && ! grep 'differs' "$work/status" && ready || return 1
  "${as[@]}" systemd-analyze --user verify "/home/ada/.config/systemd/user/$unit" || return 1
  "${as[@]}" openclaw gateway stop || return 1
  "${as[@]}" systemctl --user show -p ActiveState openclaw-gateway | grep inactive || return 1
  "${as[@]}" openclaw gateway uninstall && inside loginctl disable-linger ada
}

main() {
  trap shut_down EXIT
  make_root
  rm -f "$work/crash_ms"
  boot
  check "install: the unit is written, enabled and started" install
  check "ready" ready
  check "the installed unit is the committed one" same_unit
  check "each worker has a control group of its own below the unit's" control_groups
  check "systemd-analyze verify says nothing" verify
  check "systemd-analyze security: exposure at most 4.5" exposure
  check "the listeners are in the store" test "$(show NFileDescriptorStore)" -ge 1
  check "the journal has our fields" inside sh -c "journalctl -u $unit OPENCLAW_SUBSYSTEM=gateway -n 1 -o json --no-pager | grep -q OPENCLAW_BUILD"
  local n
  for n in 1 2 3 4 5; do check "kill -9: back within 1.5 s, nobody refused ($n)" crash; done
  inside systemctl reset-failed "$unit"
  check "SIGSTOP: the watchdog ends it and it starts again" watchdog
  check "systemctl restart: nobody refused" sh -c "nsenter -t $init -m -n -p -r -w systemctl restart $unit"
  check "ready after the restart, nobody refused" ready_without_refusal
  check "systemctl reload: in place, the same process, nobody refused" reload
  check "kill -9 after a reload: nobody refused" crash
  check "systemctl stop: clean, and clients are refused at once" stop_is_refused_at_once
  check "openclaw stop stops the service, which stays stopped" own_stop
  check "a wrong config: exit 78, no restart" wrong_config
  check "ready again" ready
  check "reboot: it comes up by itself" reboot
  check "the user's service: install with lingering, stop, uninstall" user_service
  echo "kill -9 to ready, ms: $(tr '\n' ' ' <"$work/crash_ms" 2>/dev/null)"
  echo "SIGSTOP to active (WatchdogSec=3): $(cat "$work/watchdog_ms" 2>/dev/null)"
  exit "$failed"
}

if [ "${1:-}" = --enter ]; then enter; else main; fi
