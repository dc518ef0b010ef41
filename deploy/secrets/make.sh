#!/bin/sh
# make.sh FOLDER: new random secrets for compose, and for `kubectl create secret … --from-file`.
# The containers' users (10001, 1000) must be able to read the files, so the folder keeps others out.
set -eu
folder=${1:?usage: make.sh FOLDER}
mkdir -p "$folder"
chmod 0700 "$folder"
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
: >"$folder/passwords.conf"
for user in chat tts client operator; do
  password=$(random)
  printf '%s\n' "$password" >"$folder/nats_$user"
  printf '%s_PASSWORD: "%s"\n' "$(echo "$user" | tr '[:lower:]' '[:upper:]')" "$password" >>"$folder/passwords.conf"
done
printf 'parley-root\n' >"$folder/store_root_user"
printf 'parley-tts\n' >"$folder/store_access_key"
for name in store_root_password store_secret_key; do printf '%s\n' "$(random)" >"$folder/$name"; done
[ -e "$folder/together_api_key" ] || printf 'put the key here\n' >"$folder/together_api_key"
chmod 0444 "$folder"/*
