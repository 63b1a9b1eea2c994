#!/bin/sh
# Installs Docker on Debian and Ubuntu, from their own packages.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
# shellcheck source=/dev/null
. /etc/os-release
case " $ID ${ID_LIKE:-} " in
*" debian "* | *" ubuntu "*) ;;
*)
  echo "$PRETTY_NAME: Docker is installed on Debian and Ubuntu only; install it by hand, then run this again" >&2
  exit 1
  ;;
esac
# A machine that has just booted may still be setting itself up, or be installing updates. apt waits for the lock
# of dpkg only: not for those of its lists and of its archives; nor does dpkg wait. A mirror may be away for a moment.
if command -v cloud-init >/dev/null; then timeout 600 cloud-init status --wait >/dev/null 2>&1 || true; fi
LOCKED=120
AWAY=12
locked=$LOCKED
away=$AWAY
# Whether it is worth trying again what has said $1; waits, if so.
again() {
  case $1 in
  *"not get lock"* | *"nable to lock"* | *"nable to acquire"* | *"locked by"*)
    locked=$((locked - 1))
    [ "$locked" -gt 0 ] || return 1
    ;;
  *"ailed to fetch"* | *"nable to fetch"* | *"index files failed"* | *"ould not resolve"* | *"ould not connect"*)
    away=$((away - 1))
    [ "$away" -gt 0 ] || return 1
    ;;
  *) return 1 ;;
  esac
  sleep 5
}
patiently() {
  until said=$("$@" 2>&1); do
    if ! again "$said"; then
      printf '%s\n' "$said" >&2
      exit 1
    fi
  done
}
# apt-get says by a warning only, and with 0, that a mirror was away. One that stays away may not be needed.
lists() {
  patiently apt-get update -qq
  while again "$said"; do patiently apt-get update -qq; done
  away=$AWAY
}
# An installation that was cut off is completed first.
patiently dpkg --configure -a
lists
packages="docker.io iptables ca-certificates"
# From Debian 13 on, the program `docker` is a package of its own, which docker.io only recommends.
case $(apt-cache policy docker-cli 2>/dev/null) in
*"Candidate: (none)"*) ;;
*"Candidate: "*) packages="docker-cli $packages" ;;
esac
# shellcheck disable=SC2086  # these are several words
patiently apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 \
  -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
  install -y -qq --no-install-recommends $packages
if ! command -v docker >/dev/null; then
  echo "$PRETTY_NAME: its package docker.io brings no program docker: install that by hand, then run this again" >&2
  exit 1
fi
# Updates that come by themselves would restart the engine, and with it every job.
apt-mark hold docker.io containerd >/dev/null || true
