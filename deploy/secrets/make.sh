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

callout() { [ -e "$folder/callout.conf" ] || echo '# Nobody is let in by a token.' | put callout.conf; }

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
callout
echo parley-root | put store_root_user
echo parley-tts | put store_access_key
for name in store_root_password store_secret_key; do random | put "$name"; done
[ -e "$folder/together_api_key" ] || echo 'put the key here' | put together_api_key
