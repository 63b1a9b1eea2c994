#!/bin/sh
# Installs Docker on Debian and Ubuntu, from their own packages.
set -eu
export DEBIAN_FRONTEND=noninteractive
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
# of dpkg when it installs; for that of its lists it does not wait, nor does dpkg.
if command -v cloud-init >/dev/null; then timeout 600 cloud-init status --wait >/dev/null 2>&1 || true; fi
patiently() {
  tries=120
  until out=$("$@" 2>&1); do
    case $out in
    *lock*) tries=$((tries - 1)) ;;
    *) tries=0 ;;
    esac
    if [ "$tries" -le 0 ]; then
      printf '%s\n' "$out" >&2
      exit 1
    fi
    sleep 5
  done
}
# An installation that was cut off is completed first.
patiently dpkg --configure -a
patiently apt-get update -qq
apt-get -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
  install -y -qq --no-install-recommends docker.io iptables ca-certificates
