#!/bin/bash
# repair_redis.sh REDIS_SERVER DIRECTORY [BYTES]: to be run before each start of Redis.
#
# After a power cut, half of a script may stand at the end of the append-only file. Redis itself takes off an
# unfinished command, but leaves the MULTI before it open: at the next start but one, half of a script would be
# applied (valkey#4342). Takes off at most BYTES: what the last script before a power cut can have left
# unfinished. redis-server is redis-check-aof, too, if it is called so.
limit=${3:-67108864}
for file in "$2"/appendonlydir/*.manifest "$2"/appendonly.aof; do
  [ -e "$file" ] || continue
  found=$( (exec -a redis-check-aof "$1" "$file") 2>&1 ) && exit 0
  torn=$(sed -n 's/.*diff=\([0-9]*\).*/\1/p' <<<"$found" | tail -n 1)
  if [ -z "$torn" ] || [ "$torn" -gt "$limit" ] || grep -q "Expected prefix" <<<"$found"; then
    echo "$file is damaged, not only at its end: $found"
    exit 0 # Redis says so, too, and does not start
  fi
  echo "$file ends with an unfinished script, which is taken off"
  echo y | (exec -a redis-check-aof "$1" --fix "$file")
done
