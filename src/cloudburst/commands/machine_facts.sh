#!/bin/sh
# What is there of a machine and of a stack on it, a `name=value` per line. $1: the stack. Runs on any POSIX
# shell; changes nothing.
stack=$1
say() { printf '%s=%s\n' "$1" "$2"; }

(
  # shellcheck source=/dev/null
  . /etc/os-release
  say os "$ID"
  say os_name "$PRETTY_NAME"
)
say machine "$(uname -m)"
say hostname "$(uname -n)"
say connection "${SSH_CONNECTION:-}"
say cpus "$(nproc)"
say memory_kb "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
df -Pk /var/lib | tail -n 1 | while read -r _ total _ free _; do
  say disk_kb "$total"
  say disk_free_kb "$free"
done
ip -o addr show scope global 2>/dev/null | while read -r _ device _ address _; do
  say address "$device ${address%/*}"
done
if [ -d /run/systemd/system ]; then say systemd yes; fi
for file in /usr/local/lib/cloudburst/* /etc/systemd/system/cloudburst-* /etc/init.d/cloudburst-* \
  /etc/docker/certs.d/*/* "/etc/cloudburst/$stack"/*; do
  [ -f "$file" ] && say file "$(sha256sum <"$file" | cut -c 1-64) $(stat -c %a "$file") $file"
done
command -v docker >/dev/null || exit 0
say docker_client "$(docker --version)"
version=$(docker version --format '{{.Server.Version}}' 2>/dev/null) || exit 0
say docker "$version"
say swarm "$(docker info --format '{{json .Swarm}}')"
say registry "$(docker inspect --format '{{.State.Running}} {{.Config.Image}}' "cloudburst-$stack-registry" 2>/dev/null)"
docker volume ls -q --filter "label=com.docker.stack.namespace=$stack" | while read -r name; do
  say volume "$name"
done
# Which digest the registry has of an image, the registry is asked itself: an engine with containerd's image store
# (the default from Docker 29 on) names a digest for what was only built. `exec` takes stdin, so it gets none.
docker image ls --no-trunc --filter "label=cloudburst.stack=$stack" --format '{{.Repository}}:{{.Tag}} {{.ID}}' |
  while read -r image id; do
    name=${image#*/}
    digest=$(docker exec "cloudburst-$stack-registry" \
      cat "/var/lib/registry/docker/registry/v2/repositories/${name%:*}/_manifests/tags/${name##*:}/current/link" \
      2>/dev/null </dev/null) || digest=
    say image "$image ${digest:-<none>} $id"
  done
[ "$(docker info --format '{{.Swarm.ControlAvailable}}')" = true ] || exit 0
docker node ls -q | while read -r node; do
  say node "$(docker node inspect --format '{{json .}}' "$node")"
done
docker service ls -q --filter "label=com.docker.stack.namespace=$stack" | while read -r service; do
  say service "$(docker service inspect --format '{{json .Spec.Name}},{{json .Spec.Labels}},{{json .UpdateStatus}}' "$service")"
done
docker service ls --filter "label=com.docker.stack.namespace=$stack" --format '{{json .}}' |
  while read -r service; do say replicas "$service"; done
docker secret ls --filter "label=cloudburst.stack=$stack" --format '{{.Name}}' |
  while read -r name; do say secret "$name"; done
docker config ls --filter "label=cloudburst.stack=$stack" --format '{{.Name}}' |
  while read -r name; do say config "$name"; done
