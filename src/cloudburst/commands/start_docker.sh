#!/bin/sh
# Starts Docker, now and at each boot; ends when it answers. $1: start-docker, or restart-docker, which ends it first.
set -eu
if [ -d /run/systemd/system ]; then
  systemctl enable docker
  systemctl "${1%-docker}" docker
else
  update-rc.d docker defaults
  service docker "${1%-docker}" || :
fi
for _ in $(seq 60); do
  if docker version >/dev/null 2>&1; then exit 0; fi
  sleep 0.5
done
docker version
tail -n 20 /var/log/docker.log >&2 2>/dev/null || journalctl -u docker -n 20 --no-pager >&2 || :
exit 1
