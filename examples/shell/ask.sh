#!/bin/sh
# Ask Parley with the `nats` command line and jq: the words as they come.
#
#     ./ask.sh "Why is the sky blue?"
set -eu
conversation=$(date +%s)-$$
(
  sleep 1 # until the server knows the subscription
  nats request --raw "chat.ask.$conversation" "$1" >/dev/null
) &
nats sub --raw "chat.delta.$conversation" | jq --unbuffered -rj '
  if .type == "text" then .text
  elif .type == "done" then "\n", halt
  elif .type == "failed" then "\n" + .error.message + "\n", halt
  else empty end'
