#!/bin/sh
# make.sh FOLDER              new random secrets for compose, and for `kubectl create secret …`.
# make.sh --app NAME FOLDER   one more application in a folder made before: a user and an inbox
#                             prefix (_INBOX_NAME) of its own. `--app client` only writes apps.conf
#                             anew, as after an upgrade. The server reads it when it starts or reloads.
# The containers' users (10001, 1000) must be able to read the files, so the folder keeps others out.
set -eu
umask 022
usage='usage: make.sh [--app NAME] FOLDER'
app=
if [ "${1:-}" = --app ]; then
  app=${2:?$usage}
  shift 2
fi
folder=${1:?$usage}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; echo; }
# Written beside and moved: the files themselves are read-only.
put() { cat >"$folder/.new" && chmod 0444 "$folder/.new" && mv -f "$folder/.new" "$folder/$1"; }

# Any NATS client works as `client` as it is: it alone keeps the usual inboxes.
inbox_of() { if [ "$1" = client ]; then echo _INBOX; else echo "_INBOX_$1"; fi; }

apps() {
  echo '# The applications, a user each; `deploy/secrets/make.sh --app NAME` adds one.'
  echo 'include ../application.conf'
  echo 'users: ['
  for file in "$folder"/nats_*; do
    user=${file##*/nats_}
    case $user in chat | tts | operator | access) continue ;; esac
    cat <<END
  {
    user: $user, password: "$(cat "$file")"
    permissions {
      publish { allow: \$APPLICATION_ASKS }
      subscribe { allow: ["chat.delta", "chat.delta.*", "tts.audio", "tts.audio.*", "$(inbox_of "$user").>"] }
    }
  }
END
  done
  echo ']'
}

# Key and issuer of conversation tokens (docs/security.md): only a program that knows nkeys makes one.
PYTHON=${PYTHON:-$(dirname "$0")/../../.venv/bin/python}
seed() {  # as `python -m services.access seed`, without what a whole service loads
  PYTHONPATH=$(dirname "$0")/../.. "$PYTHON" -c 'import os
from services.access.nkey import SigningKey, account_seed
seed = account_seed(os.urandom(32))
print(f"{seed}  # {SigningKey.from_seed(seed).public}")'
}

access() {
  [ -e "$folder/nats_access" ] || random | put nats_access
  for name in access_issuer_seed access_keys; do
    [ -s "$folder/$name" ] && continue
    if ! made=$(seed 2>/dev/null); then
      echo "make.sh: nobody is let in by a token: \`make setup\`, then make.sh --app client $folder" >&2
    fi
    { [ -z "$made" ] || echo "$made"; } | put "$name"
  done
  grep -q '^ACCESS_PASSWORD' "$folder/passwords.conf" ||
    { cat "$folder/passwords.conf"; echo "ACCESS_PASSWORD: \"$(cat "$folder/nats_access")\""; } | put passwords.conf
}

# Those with a login, by name: everybody else shows a token.
callout() {
  users=$(for file in "$folder"/nats_*; do printf '%s, ' "${file##*/nats_}"; done)
  issuer=$(sed -n 's/.*# //p' "$folder/access_issuer_seed")
  if [ -z "$issuer" ]; then
    echo '# Nobody is let in by a token.'
  else
    cat <<END
# Whoever has no login shows a token, and the access service decides.
authorization {
  auth_callout {
    issuer: $issuer
    account: AUTH
    auth_users: [${users%, }]
  }
}
END
  fi | put callout.conf
}

if [ -n "$app" ]; then
  case $app in
    *[!a-z0-9-]* | -* | chat | tts | operator | access)
      echo "make.sh: an application's name is of a-z, 0-9 and -, and no service's: $app" >&2
      exit 1
      ;;
  esac
  [ -e "$folder/nats_client" ] || { echo "make.sh: $folder has no secrets yet: $usage" >&2; exit 1; }
  [ -e "$folder/nats_$app" ] || random | put "nats_$app"
  # An application's password stood in passwords.conf once.
  grep -v '^CLIENT_PASSWORD' "$folder/passwords.conf" | put passwords.conf
  apps | put apps.conf
  access
  callout
  exit
fi

mkdir -p "$folder"
chmod 0700 "$folder"
for user in chat tts operator client; do random | put "nats_$user"; done
for user in chat tts operator; do
  printf '%s_PASSWORD: "%s"\n' "$(echo "$user" | tr '[:lower:]' '[:upper:]')" "$(cat "$folder/nats_$user")"
done | put passwords.conf
apps | put apps.conf
access
callout
echo parley-root | put store_root_user
echo parley-tts | put store_access_key
for name in store_root_password store_secret_key; do random | put "$name"; done
[ -e "$folder/together_api_key" ] || echo 'put the key here' | put together_api_key
