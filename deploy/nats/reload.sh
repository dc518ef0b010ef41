#!/bin/sh
# reload.sh PID_FILE FOLDER…: has nats-server read its configuration again whenever a file in the
# folders has changed: permissions, passwords, renewed certificates. What it cannot read it refuses,
# and goes on as before. Runs beside the server, as its user, in its process namespace.
set -eu
pid_file=$1
shift
content() { find -L "$@" -type f -exec sha256sum {} + | sort | sha256sum; }
known=$(content "$@")
while sleep "${RELOAD_SECONDS:-10}"; do
  now=$(content "$@")
  if [ "$now" != "$known" ] && nats-server --signal "reload=$pid_file"; then
    echo "reload.sh: the configuration has changed; the server reads it again"
    known=$now
  fi
done
