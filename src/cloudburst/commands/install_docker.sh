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
# A machine that has just booted may be installing updates: apt waits for their lock. An installation that was
# cut off is completed first.
dpkg --configure -a
apt-get -o DPkg::Lock::Timeout=600 update -qq
apt-get -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
  install -y -qq --no-install-recommends docker.io iptables ca-certificates
